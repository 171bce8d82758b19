"""The recipe `cifar10-resnet8` in PyTorch: the same network, images, batches, learning rates and average of the weights.

  python control.py cifar10-png.zip --threads 1

Nesterov's momentum 0.9, batch 128, 2 epochs up to the rate of 0.1 and half a cosine down, weight decay 5e-4 on what has more
than one dimension, flips and shifts by up to 4 pixels, an exponential moving average of the weights (0.999, the
running statistics of batch-norm with it) that is tested after every epoch. Order, changes and first weights are NumPy's and
PyTorch's, not lowbit's: equal in distribution, not image by image. A line of the log is an epoch; `--out` writes JSON.
"""

import argparse
import copy
import io
import json
import math
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import models


def load(path, part):
    """Images `[n, h, w, c]` as u8 and labels of one folder of the zip."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(n for n in archive.namelist() if f"/{part}/" in n and n.endswith((".png", ".jpg")))
        images = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(n))).convert("RGB")) for n in names])
    classes = sorted({Path(n).parent.name for n in names})
    return images, np.array([classes.index(Path(n).parent.name) for n in names])


def changed(images, rng, shift=4):
    """Each image flipped or not, and moved by up to `shift` pixels each way; what moves in is black."""
    n, h, w, _ = images.shape
    out = np.empty_like(images)
    padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)))
    flips, downs, rights = rng.integers(2, size=n), rng.integers(2 * shift + 1, size=n), rng.integers(2 * shift + 1, size=n)
    for i in range(n):
        cut = padded[i, downs[i] : downs[i] + h, rights[i] : rights[i] + w]
        out[i] = cut[:, ::-1] if flips[i] else cut
    return out


def tensor(images):
    return models.normalized(images).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def follow(average, net, decay):
    """Weights and statistics alike; counters as they are."""
    for mean, value in zip(average.state_dict().values(), net.state_dict().values()):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)


@torch.inference_mode()
def accuracy(net, images, labels):
    net.eval()
    found = [net(tensor(images[i : i + 250])).argmax(1).numpy() for i in range(0, len(images), 250)]
    return 100 * float((np.concatenate(found) == labels).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zip", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    (images, labels), test = load(args.zip, "train"), load(args.zip, "test")

    net = models.resnet8().to(memory_format=torch.channels_last).train()
    decaying = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decaying, "weight_decay": args.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)
    average = copy.deepcopy(net)

    batch = 128
    per_epoch = math.ceil(len(images) / batch)
    warm_up, total, step, epochs = 2 * per_epoch, args.epochs * per_epoch, 0, []
    for epoch in range(1, args.epochs + 1):
        start, losses, right, order = time.perf_counter(), 0.0, 0, rng.permutation(len(images))
        for at in range(0, len(order), batch):
            pick = order[at : at + batch]
            done = (step - warm_up) / (total - warm_up)
            rate = 0.1 * ((step + 1) / warm_up if step < warm_up else 0.5 * (1 + math.cos(math.pi * done)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            logits, target = net(tensor(changed(images[pick], rng))), torch.from_numpy(labels[pick])
            loss = torch.nn.functional.cross_entropy(logits, target)
            loss.backward()
            optimizer.step()
            follow(average, net, 0.999)
            losses += loss.item() * len(pick)
            right += int((logits.argmax(1) == target).sum())
            step += 1
        seconds = time.perf_counter() - start
        one = {"epoch": epoch, "loss": losses / len(order), "train": 100 * right / len(order), "seconds": seconds}
        one["test"] = accuracy(average, *test)
        epochs.append(one)
        figures = f"loss {one['loss']:.4f}  train {one['train']:.2f} %  test {one['test']:.2f} %"
        print(f"epoch {epoch:2}/{args.epochs}  {figures}  {len(order) / seconds:.0f} img/s", flush=True)
        if args.out:
            settings = {name: getattr(value, "name", value) for name, value in vars(args).items()}
            args.out.write_text(json.dumps({"torch": torch.__version__, "settings": settings, "epochs": epochs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
