"""lowbit's app without a network: its two sides called directly, and nodes that are or say what they should not."""

from __future__ import annotations

import json
import re
import struct
import zlib
from itertools import count
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Error, Message, MetricRecord, RecordDict

# What a ServerApp's process is told when it starts.
from flwr.supercore.task_identity import TaskIdentity

import lowbit
from lowbit.flower import answer, hello, serve

TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1

CONFIG: dict[str, Any] = {
    "clients": 3, "num-server-rounds": 1, "min-clients": 1, "limit": 96, "image-size": 32, "model": "resnet8", "local-epochs": 1,
    "batch-size": 16, "data": "landcover", "cache": False, "wait-for-nodes": 0,
}  # fmt: skip


class Grid:
    """Nodes that are called directly."""

    def __init__(self, config: dict[str, Any], meddle: dict[int, Callable[[Message], None]], own: dict[int, dict[str, Any]]) -> None:
        self.meddle = meddle
        self.nodes = {
            2**62 + client: Context(
                run_id=1, node_id=2**62 + client, state=RecordDict(), run_config=config,
                node_config={"partition-id": client, **own.get(client, {})},
            )
            for client in range(config["clients"])
        }  # fmt: skip

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def send_and_receive(self, messages: Any, timeout: float | None = None) -> list[Message]:
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            message.metadata.__dict__["_src_node_id"] = 1
            kind = message.metadata.message_type
            try:
                reply = (hello if kind == "query" else answer)(message, self.nodes[node])
                if kind == "train" and (what := self.meddle.get(node - 2**62)):
                    what(reply)
            except Exception as error:
                # As a SuperNode says it, with its line's end.
                reply = Message(Error(code=2, reason=f"{type(error).__name__}:\n{error}\n"), reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = node
            replies.append(reply)
        return replies


def run(folder: Path, meddle: dict[int, Callable[[Message], None]], own: dict[int, dict[str, Any]], **more: Any) -> dict[str, Any]:
    config = {**CONFIG, "out": str(folder), **more}
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    found: dict[str, Any] = json.loads((serve(Grid(config, meddle, own), context) / "training_results.json").read_text())  # type: ignore[arg-type]
    return found


def images(folder: Path, side: int, names: list[str]) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        for at in range(6):
            pixels = np.random.default_rng(at).integers(0, 256, 3 * side * side, dtype=np.uint8).tobytes()
            # A bitmap, uncompressed: rows of 3·side bytes, which four divide.
            header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54 + len(pixels), 0, 0, 54, 40, side, side, 1, 24, 0, len(pixels), 0, 0, 0, 0)
            (folder / name / f"{at}.bmp").write_bytes(header + pixels)
    return folder


def parts_of(reply: Message) -> bytes:
    return reply.content.array_records["update"]["message-0"].numpy().tobytes()


def put(reply: Message, message: bytes) -> None:
    reply.content["update"] = ArrayRecord({"message-0": Array(np.frombuffer(message, np.uint8))})


def test_nodes_that_are_not_what_they_should_be_are_named_and_the_round_goes_on(tmp_path: Path) -> None:
    def version(reply: Message) -> None:
        message = parts_of(reply)
        body = message[:4] + b"\x09" + message[5:-4]
        put(reply, body + zlib.crc32(body).to_bytes(4, "little"))

    def seconds(reply: Message) -> None:
        reply.content["training"] = MetricRecord({"images": 1})

    def array(reply: Message) -> None:
        # Of another type, and in another order.
        reply.content["update"] = ArrayRecord({"message-0": Array(np.asfortranarray(np.full((3, 2), 7, np.int64)))})

    classes = lowbit.load_dataset("landcover", limit=96, image_size=32, cache=False).class_names
    (tmp_path / "none").mkdir()
    (tmp_path / "empty/forest").mkdir(parents=True)
    meddle: dict[int, tuple[Callable[[Message], None], str]] = {
        1: (version, "version 9"),
        2: (lambda reply: put(reply, parts_of(reply)[:-7]), "cut off"),
        3: (seconds, "its answer cannot be read: KeyError"),
        4: (lambda reply: reply.content.__delitem__("update"), "its answer cannot be read: KeyError"),
        5: (array, "cut off"),
    }
    own: dict[int, tuple[dict[str, Any], str]] = {
        6: ({"data": str(tmp_path / "none")}, "DataError: .*none"),
        7: ({"data": str(tmp_path / "empty")}, "DataError: .*empty"),
        8: ({"data": str(images(tmp_path / "others", 32, ["ant", "bee"]))}, "digest .* both sides need the same model"),
        9: ({"data": str(images(tmp_path / "gone", 32, classes) / "nothing.zip")}, "DataError|FileError"),
    }
    found = run(
        tmp_path / "out", {node: what for node, (what, _) in meddle.items()}, {node: what for node, (what, _) in own.items()}, clients=11
    )
    (round,) = found["results_per_round"]
    assert round["clients"] == 2, round
    said = {each["client"]: each.get("text", each["reason"]) for each in round["failures"]}
    assert said.keys() == meddle.keys() | own.keys(), said
    for node, (_, part) in [*meddle.items(), *own.items()]:
        assert re.search(part, said[node]) and "\n" not in said[node], (node, said[node])


def test_a_federation_that_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    numbers = count()

    def config(**more: Any) -> dict[str, Any]:
        # An error keeps the server that it came from, and a server its folder.
        return {**CONFIG, "out": str(tmp_path / str(next(numbers))), **{key.replace("_", "-"): value for key, value in more.items()}}

    def refused(kind: type[Exception], part: str, config: dict[str, Any], grid: Any = None) -> None:
        context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config)
        with pytest.raises(kind, match=part) as error:
            serve(grid or Grid(config, {}, {}), context)
        assert "\n" not in str(error.value)

    # More clients than images: some would be without data.
    refused(lowbit.Error, "client", config(clients=1000))
    refused(lowbit.Error, "client", config(clients=96, partition="shards:2"))
    refused(lowbit.SettingError, "up_bits", config(up_bits="3"))
    refused(lowbit.SettingError, "partition", config(partition="evenly"))
    refused(lowbit.SettingError, "rate", config(rate=3))
    # Nodes that do not say who they are, or say the same.
    grid = Grid(config(), {}, {0: {"partition-id": 7}, 1: {"partition-id": 2}})
    refused(lowbit.WireError, "1 of 3 clients came", config(), grid)
    grid = Grid(config(), {}, {})
    for node in grid.nodes.values():
        node.node_config.pop("partition-id")
    refused(lowbit.WireError, "0 of 3 clients came", config(), grid)
    # All of them fail.
    grid = Grid(config(), {client: lambda reply: put(reply, b"nothing") for client in range(3)}, {})
    refused(lowbit.Error, "round 1: 0 clients count", config(), grid)


def test_a_server_has_no_batch_norm_of_nodes_to_measure_with(tmp_path: Path) -> None:
    averaged = run(tmp_path / "server", {}, {}, norm="server")
    assert averaged["results_per_round"][0]["clients"] == 3
    for norm, part in [("local", "norm is local: this server has no client's batch-norm"), ("own", "use server or local")]:
        with pytest.raises(lowbit.Error, match=part) as error:
            run(tmp_path / norm, {}, {}, norm=norm)
        assert "\n" not in str(error.value)
