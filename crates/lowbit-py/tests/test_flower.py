"""What tasks of a cluster read and write, and whom a round misses; flower/tests has federations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lowbit as lb

pytest.importorskip("flwr")

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp.strategy import FedAvg

from lowbit.flower import _cluster, answer, compressed, hello, serve


def test_a_folder_may_have_any_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tomllib = pytest.importorskip("tomllib")
    folder = tmp_path / "fo\U0001f600 \x7f 'a' \\ \"b\""
    folder.mkdir()
    server = _cluster.Server(folder, ["clients=1"])
    project = tomllib.loads((server._app() / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["flwr"]["app"]["config"]["done"] == str(server.done)

    class Stop(Exception):
        pass

    def child(*_: Any) -> None:
        raise Stop

    monkeypatch.setattr(_cluster, "Child", child)
    with pytest.raises(Stop):
        server._serve()
    (config,) = folder.glob("home-*/config.toml")
    found = tomllib.loads(config.read_text(encoding="utf-8"))
    assert found["superlink"]["here"]["root-certificates"] == str(folder / "ca.crt")
    with pytest.raises(lb.SettingError, match="is not UTF-8"):
        _cluster.Server(tmp_path / "\udcff", [])._app()


def test_the_last_line_has_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for said, expected in [
        ("first\n\u256d\u2500 Error \u2500\u256e\n\u2502 no such port \u2502\n\u2570\u2500\u2500\u256f\n\n", "no such port"),
        ("plain: 7\n---\n", "plain: 7"),
        ("\x1b[31mred\x1b[0m\n\x1b[0m\n", "red"),
        ("\u2570\u2500\u256f\n", "it said nothing"),
    ]:
        log.write_text(said)
        assert _cluster._last_line(log) == expected


def test_a_server_that_fails_before_it_has_an_address_ends_its_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = tmp_path / _cluster.ENDED
    _cluster.write(ended, {"attempt": "a", "error": "of an attempt before"})
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        assert len(pauses) < 10
        if len(pauses) == 3:
            _cluster.write(ended, {"attempt": "b", "error": "no port"})

    monkeypatch.setattr(_cluster.time, "sleep", sleep)
    with pytest.raises(lb.WireError, match="the server failed: no port"):
        _cluster.Client(tmp_path, 0).run()
    assert len(pauses) == 3


class Grid:
    """Three nodes: the first one answers, the second one is gone when it is to train, the third one says nothing."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.nodes = {
            100 + client: Context(run_id=1, node_id=100 + client, state=RecordDict(), run_config=config, node_config={"partition-id": client})
            for client in range(3)
        }

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def send_and_receive(self, messages: Any, timeout: float | None = None) -> list[Message]:
        replies = []
        for message in messages:
            node, kind = message.metadata.dst_node_id, message.metadata.message_type
            message.metadata.__dict__["_src_node_id"] = sender = 1
            if kind == "query":
                reply, sender = hello(message, self.nodes[node]), node
            elif node == 100:
                reply, sender = answer(message, self.nodes[node]), node
            elif node == 101:
                # The SuperLink says it, in its own name.
                reply = Message(Error(code=3, reason="Node Unavailable"), reply_to=message)
                del self.nodes[node]
            else:
                continue
            reply.metadata.__dict__["_src_node_id"] = sender
            replies.append(reply)
        return replies


def test_a_node_that_is_gone_and_one_that_is_late_are_told_apart(tmp_path: Path) -> None:
    identity = pytest.importorskip("flwr.supercore.task_identity").TaskIdentity
    identity.task_id = identity.run_id = identity.node_id = 1
    config: dict[str, Any] = {
        "clients": 3, "num-server-rounds": 1, "min-clients": 1, "limit": 96, "image-size": 32, "model": "resnet8", "local-epochs": 1,
        "data": "landcover", "cache": False, "wait-for-nodes": 0, "out": str(tmp_path),
    }  # fmt: skip
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    found = json.loads((serve(Grid(config), context) / "training_results.json").read_text())  # type: ignore[arg-type]
    said = {each["client"]: each.get("text", each["reason"]) for each in found["results_per_round"][0]["failures"]}
    assert said.keys() == {1, 2}
    assert "its node is gone: Node Unavailable" in said[1] and "did not answer in time" in said[2]


def test_a_seed_of_the_codec_is_one(tmp_path: Path) -> None:
    for seed in (-1, 2**64):
        with pytest.raises(lb.SettingError, match="seed=.*must lie in 0"):
            compressed(FedAvg(), seed=seed)
