"""A client. What lowbit adds is `mods`."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from lowbit.flower import compressed_mod
from quickstart import task

app = ClientApp(mods=[compressed_mod])


def received(message: Message) -> task.Net:
    net = task.Net()
    net.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    return net


@app.train()
def train(message: Message, context: Context) -> Message:
    config, client = context.run_config, int(context.node_config["partition-id"])
    round = int(message.content.config_records["config"]["server-round"])
    # The same batches in every run of a seed: what differs between two runs is the codec.
    torch.manual_seed(1000 * int(config["seed"]) + 100 * client + round)
    torch.set_num_threads(1)
    net, (data, _) = received(message), task.part(config, client)
    loss = task.train(net, data, int(config["local-epochs"]), float(config["lr"]), int(config["batch-size"]))
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(data)})
    content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    _, data = task.part(context.run_config, int(context.node_config["partition-id"]))
    loss, accuracy = task.test(received(message), data)
    metrics = MetricRecord({"eval_loss": loss, "eval_acc": accuracy, "num-examples": len(data)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)
