"""A training step in PyTorch: Adam, cross-entropy."""

import torch

LAST = torch.channels_last


def step(net, x, labels, memory_format=torch.contiguous_format, prepare=lambda net: net):
    """A step, built and run twice; `prepare` compiles the module."""
    x = x.to(memory_format=memory_format)
    net = net.train().to(memory_format=memory_format)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-6)
    net = prepare(net)

    def run():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()

    run()
    run()
    return run
