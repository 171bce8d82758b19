"""The server. What lowbit adds is `compressed`."""

import json
from pathlib import Path

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from lowbit.flower import compressed
from quickstart import task

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    torch.manual_seed(int(config["seed"]))
    net = task.Net()
    clients = int(config["clients"])
    plain = FedAvg(fraction_train=float(config["fraction-train"]), min_available_nodes=clients)
    bits = str(config["bits"])
    strategy = plain if bits == "none" else compressed(plain, up_bits=bits, down_bits=bits)
    data = task.load(config)
    held_out = task.tensors(data.test_images, data.test_labels)

    def central(round: int, arrays: ArrayRecord) -> MetricRecord:
        net.load_state_dict(arrays.to_torch_state_dict())
        loss, accuracy = task.test(net, held_out)
        return MetricRecord({"loss": loss, "accuracy": accuracy})

    found = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(net.state_dict()),
        train_config=ConfigRecord({"lr": float(config["lr"])}),
        num_rounds=int(config["num-server-rounds"]),
        evaluate_fn=central,
    )
    rounds = {round: dict(metrics) for round, metrics in found.evaluate_metrics_serverapp.items()}
    results = {
        "bits": bits,
        "test_images": len(held_out),
        "parameters": sum(tensor.numel() for tensor in net.state_dict().values()),
        "accuracy": [rounds[round]["accuracy"] for round in sorted(rounds)],
        "bytes_up": getattr(strategy, "bytes_up", None),
        "bytes_down": getattr(strategy, "bytes_down", None),
        "failures": len(getattr(strategy, "failures", [])),
    }
    out = Path(str(config["out"]))
    out.mkdir(parents=True, exist_ok=True)
    beside = out / "results.json.part"
    beside.write_text(json.dumps(results))
    beside.replace(out / "results.json")
