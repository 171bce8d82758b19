"""lowbit's own federation on Flower: what ServerApp and ClientApp of `flower/` call."""

from __future__ import annotations

import json
import time
from logging import INFO
from pathlib import Path
from typing import Any, Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from .._data import load_dataset
from .._errors import SettingError, WireError
from .._lowbit import FederationClient, FederationServer
from .._settings import pairs
from ._tensors import carried, carried_messages, one_line

STATE = "lowbit-federation"

# Keys of the run's configuration that are about the federation, and their names inside.
_FEDERATION = {
    "num-server-rounds": "rounds", "fraction-train": "fraction", "local-epochs": "local_epochs", "bits": "bits",
    "up-bits": "up_bits", "down-bits": "down_bits", "partition": "partition", "clients": "clients", "strategy": "strategy",
    "aggregator": "aggregator", "norm": "norm", "min-clients": "min_clients", "feedback": "feedback", "rotate": "rotate",
}  # fmt: skip
# Others are settings of the command line, but these.
_OTHER = ("round-timeout", "wait-for-nodes")
# Settings of the command line that say which images there are.
_IMAGES = ("seed", "limit", "image-size", "resize", "exif", "data-dir", "cache", "split")


def _settings(config: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The settings of training and of the federation."""
    given = {key: value for key, value in config.items() if value != "" and key not in _OTHER}
    own = pairs(**{_FEDERATION[key]: value for key, value in given.items() if key in _FEDERATION})
    settings = pairs(**{key.replace("-", "_"): value for key, value in given.items() if key not in _FEDERATION})
    # The command line's default for a federation.
    return pairs(schedule="constant") + settings, own


def _dataset(config: Mapping[str, Any], path: str | None = None) -> Any:
    found = {key.replace("-", "_"): config[key] for key in _IMAGES if config.get(key, "") != ""}
    return load_dataset(path or str(config.get("data", "landcover")), **found)


def serve(grid: Grid, context: Context) -> Path:
    """Run a federation over the nodes of a grid; returns the folder of its results, those of ``lowbit federate``.

    Raises:
        WireError: too few nodes came, or answered in a round.
        SettingError: a key or a value that cannot be.
    """
    config = context.run_config
    settings, own = _settings(config)
    clients = int(config.get("clients", 10))
    server = FederationServer(_dataset(config)._inner, settings, own)
    nodes: dict[int, int] = {}
    over = time.monotonic() + float(config.get("wait-for-nodes", 300))
    while True:
        _find(grid, nodes, clients)
        if len(nodes) == clients:
            break
        if time.monotonic() > over:
            raise WireError(f"{len(nodes)} of {clients} clients came: start more SuperNodes, or lower clients")
        time.sleep(1)
    for _ in range(int(config.get("num-server-rounds", 5))):
        round, selected = server.open()
        _find(grid, nodes, clients)
        places = {node: client for client, node in nodes.items()}
        messages, lost = [], []
        for client in selected:
            parts, counted = server.send(client)
            if client not in nodes:
                lost.append((client, "its node is gone"))
                continue
            content = RecordDict({"model": carried(parts), "round": ConfigRecord({"round": round, "counted": counted, "client": client})})
            messages.append(Message(content=content, message_type="train", dst_node_id=nodes[client]))
        asked = {places[message.metadata.dst_node_id] for message in messages}
        answers, gone = [], "its node is gone"
        for reply in grid.send_and_receive(messages, timeout=float(config.get("round-timeout", 3600))):
            sender = places.get(reply.metadata.src_node_id)
            if sender is None or sender not in asked:
                # Of a node that is gone the SuperLink says so, in its own name, and not which node it is.
                gone = f"its node is gone: {one_line(str(reply.error.reason))}" if reply.has_error() else gone
                continue
            asked.discard(sender)
            if reply.has_error():
                lost.append((sender, f"its node failed: {one_line(str(reply.error.reason))}"))
                continue
            # Whatever a node sends, it must not end the round of the others.
            try:
                parts, _ = carried_messages(reply.content.array_records["update"])
                seconds = float(reply.content.metric_records["training"]["seconds"])  # type: ignore[arg-type]
            except Exception as error:
                lost.append((sender, f"its answer cannot be read: {type(error).__name__}: {one_line(str(error))}"))
                continue
            answers.append((sender, seconds, b"".join(parts)))
        there = set(grid.get_node_ids()) if asked else set()
        lost += [(client, "its node did not answer in time" if nodes[client] in there else gone) for client in sorted(asked)]
        # Whose node failed may come again as another node.
        for client, _ in lost:
            nodes.pop(client, None)
        record = json.loads(server.close(answers, lost))
        log(
            INFO,
            "round %s: test accuracy %.2f %%, %s bytes up, %s down, %s clients%s",
            round, 100 * record["test_accuracy"], record["bytes_up"], record["bytes_down"], record["clients"],
            "".join(f"; client {each['client']}: {each.get('text', each['reason'])}" for each in record["failures"]),
        )  # fmt: skip
    folder = Path(server.finish())
    log(INFO, "results in %s", folder)
    return folder


def _find(grid: Grid, nodes: dict[int, int], clients: int) -> None:
    """Ask nodes that are new which client they are; forget those that are gone."""
    there = set(grid.get_node_ids())
    for client, node in list(nodes.items()):
        if node not in there:
            del nodes[client]
    fresh = there - set(nodes.values())
    questions = [Message(content=RecordDict(), message_type="query", dst_node_id=node) for node in fresh]
    if not questions:
        return
    for reply in grid.send_and_receive(questions, timeout=60):
        if reply.has_error():
            continue
        node = reply.metadata.src_node_id
        try:
            client = int(reply.content.metric_records["hello"]["client"])  # type: ignore[arg-type]
        except Exception:
            log(INFO, "node %s does not say which client it is: not needed", node)
            continue
        if not 0 <= client < clients or client in nodes:
            log(INFO, "node %s says it is client %s: not needed", node, client)
            continue
        nodes[client] = node


def _number(context: Context) -> int:
    found = context.node_config.get("partition-id")
    if found is None:
        raise SettingError("this node has no partition-id: start it with --node-config 'partition-id=0'")
    return int(found)


def hello(message: Message, context: Context) -> Message:
    """Say which client this node is: its ``partition-id``."""
    return Message(content=RecordDict({"hello": MetricRecord({"client": _number(context)})}), reply_to=message)


def answer(message: Message, context: Context) -> Message:
    """Train on this node's images, and say what changed.

    The images are those that the federation's partition gives the node's ``partition-id``; with ``data`` in the node's
    configuration, they are all of that data set.
    """
    config, own_data = context.run_config, context.node_config.get("data")
    settings, own = _settings(config)
    client = _number(context)
    data = _dataset(config, None if own_data is None else str(own_data))
    side = FederationClient(data._inner, settings, own, client, own_data is not None)
    state = context.state
    kept = None
    if STATE in state.array_records:
        model, residual, pending = (state.array_records[STATE][name].numpy() for name in ("model", "residual", "pending"))
        numbers = state.config_records[STATE + "-numbers"]
        kept = (model, int(numbers["round"]), residual, pending, int(numbers["answered"]))  # type: ignore[arg-type]
    said = message.content.config_records["round"]
    parts, _ = carried_messages(message.content.array_records["model"])
    begun = time.monotonic()
    update, after = side.answer(kept, int(said["round"]), int(said["counted"]), parts)  # type: ignore[arg-type]
    model, held, residual, pending, answered = after
    vectors = {"model": model, "residual": residual, "pending": pending}
    state[STATE] = ArrayRecord({name: Array(np.ascontiguousarray(values)) for name, values in vectors.items()})
    state[STATE + "-numbers"] = ConfigRecord({"round": held, "answered": answered})
    content = RecordDict(
        {"update": carried([update]), "training": MetricRecord({"seconds": time.monotonic() - begun, "images": side.images()})}
    )
    return Message(content=content, reply_to=message)
