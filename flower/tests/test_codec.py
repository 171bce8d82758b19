"""The codec around anybody's federation, without a network: Flower's FedAvg over numpy arrays, with nodes that fail."""

from __future__ import annotations

import re
import zlib
from functools import partial
from typing import Any, Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

# What a ServerApp's process is told when it starts.
from flwr.supercore.task_identity import TaskIdentity

import lowbit
from lowbit._lowbit import Codec
from lowbit.flower import Compressed, compressed, compressed_mod

TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1

SHAPES = {"conv.weight": (16, 3, 3, 3), "bn.running_var": (16,), "fc.weight": (10, 64), "fc.bias": (10,)}


class Grid:
    """Nodes that are called directly. The ids are as large as Flower's."""

    def __init__(self, nodes: int, train: Callable[[Message, Context], Message]) -> None:
        self.train = train
        ids = [2**62 + 12345 * node for node in range(nodes)]
        self.contexts = {
            node: Context(run_id=1, node_id=node, node_config={"client": at}, state=RecordDict(), run_config={})
            for at, node in enumerate(ids)
        }
        self.down: set[int] = set()

    def get_node_ids(self) -> list[int]:
        return list(self.contexts)

    def send_and_receive(self, messages: Any, timeout: float | None = None) -> list[Message]:
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            message.metadata.__dict__["_src_node_id"] = 1
            try:
                if node in self.down:
                    raise ConnectionError("gone")
                reply = compressed_mod(message, self.contexts[node], self.train)
            except Exception as error:  # noqa: BLE001 (as a SuperNode does)
                reply = Message(Error(code=0, reason=str(error)), reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = node
            replies.append(reply)
        return replies


def target(client: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(client)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


kinds: set[str] = set()


def towards_target(message: Message, context: Context, rate: float = 0.5) -> Message:
    """Each node draws the model to a point, by a part of the way."""
    arrays = message.content["arrays"]
    goal = target(0)
    found = ArrayRecord()
    for name, array in arrays.items():
        value = array.numpy()
        if name == "steps":
            kinds.add(value.dtype.kind)
            found[name] = Array(np.asarray(value + 1))
        else:
            assert value.dtype == np.float32 and value.shape == SHAPES[name]
            found[name] = Array((value + rate * (np.abs(goal[name]) - value)).astype(np.float32))
    content = RecordDict({"arrays": found, "metrics": MetricRecord({"num-examples": 10, "loss": 1.0})})
    return Message(content=content, reply_to=message)


def start() -> ArrayRecord:
    arrays = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    record = ArrayRecord({name: Array(value) for name, value in arrays.items()})
    record["steps"] = Array(np.array(0))
    return record


def run(strategy: Any, rounds: int, grid: Grid) -> dict[str, np.ndarray]:
    result = strategy.start(grid=grid, initial_arrays=start(), num_rounds=rounds)
    return {name: array.numpy() for name, array in result.arrays.items()}


def distance(found: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(found[name] - np.abs(goal)).max()) for name, goal in target(0).items())


@pytest.mark.parametrize(
    ("bits", "rate", "rounds", "reached"),
    [("32", 0.5, 40, 1e-5), ("8", 0.5, 40, 1e-3), ("4", 0.5, 40, 0.02), ("1", 0.5, 40, 0.15), ("ternary:10", 0.1, 200, 0.1)],
)
def test_the_optimum_is_reached_at_every_width_and_bytes_shrink(bits: str, rate: float, rounds: int, reached: float) -> None:
    strategy = compressed(FedAvg(fraction_evaluate=0.0), up_bits=bits, down_bits=bits)
    kinds.clear()
    found = run(strategy, rounds, Grid(3, partial(towards_target, rate=rate)))
    assert distance(found) < reached, distance(found)
    # Flower's mean makes fractions of counters; nodes get whole numbers all the same.
    assert found["steps"] == pytest.approx(rounds) and kinds == {"i"}
    plain = 4 * sum(int(np.prod(shape)) for shape in SHAPES.values())
    for counts in (strategy.bytes_up[2:], strategy.bytes_down[2:]):
        # A model that does not change is not sent again.
        assert len(set(counts) - {0}) == 1 or bits.startswith("ternary")
        # Vectors, statistics and headers stay; matrices shrink by 32 / bits, and have a scale per row.
        most = {"32": 1.1, "8": 0.4, "4": 0.27, "1": 0.2, "ternary:10": 0.2}[bits]
        assert max(counts) / 3 < most * plain


def test_at_32_bits_it_is_the_strategy_itself() -> None:
    def call(message: Message, context: Context) -> Message:
        return towards_target(message, context)

    class Plain(Grid):
        def send_and_receive(self, messages: Any, timeout: float | None = None) -> list[Message]:
            replies = []
            for message in messages:
                reply = self.train(message, self.contexts[message.metadata.dst_node_id])
                reply.metadata.__dict__["_src_node_id"] = message.metadata.dst_node_id
                replies.append(reply)
            return replies

    expected = run(FedAvg(fraction_evaluate=0.0), 5, Plain(3, call))
    found = run(compressed(FedAvg(fraction_evaluate=0.0), up_bits=32, down_bits=32), 5, Grid(3, call))
    for name, array in expected.items():
        # Differences are added: an f32 may round once more.
        assert np.allclose(found[name], array, atol=1e-6), name


def test_nodes_that_fail_forget_or_come_late_catch_up() -> None:
    grid = Grid(3, towards_target)
    first, second, third = grid.get_node_ids()
    strategy = compressed(FedAvg(fraction_evaluate=0.0), up_bits=2, down_bits=8)
    arrays, config = start(), ConfigRecord()

    def one(round: int) -> None:
        nonlocal arrays
        found, _ = strategy.aggregate_train(round, grid.send_and_receive(strategy.configure_train(round, arrays, config, grid)))
        assert found is not None
        arrays = found

    def holds(node: int) -> np.ndarray:
        return np.asarray(grid.contexts[node].state["lowbit-state"]["model"].numpy())

    one(1)
    grid.down = {second}
    one(2)
    one(3)
    grid.down = set()
    whole = strategy.bytes_down[1] // 3
    before = strategy.bytes_down[2] // 3
    one(4)
    assert np.array_equal(holds(first), holds(second))
    # Who was gone is sent the whole model, the others what changed.
    assert strategy.bytes_down[4] == whole + 2 * before
    # A node that lost its state fails once, and is sent the whole model then.
    grid.contexts[third].state = RecordDict()
    one(5)
    one(6)
    assert np.array_equal(holds(first), holds(third)) and np.array_equal(holds(first), holds(second))


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(lowbit.SettingError, match="bits=3"):
        compressed(FedAvg(), up_bits=3)
    strategy: Compressed = compressed(FedAvg(fraction_evaluate=0.0))

    class Without(Grid):
        def send_and_receive(self, messages: Any, timeout: float | None = None) -> list[Message]:
            replies = []
            for message in messages:
                reply = Message(content=RecordDict({"arrays": start()}), reply_to=message)
                reply.metadata.__dict__["_src_node_id"] = message.metadata.dst_node_id
                replies.append(reply)
            return replies

    with pytest.raises(lowbit.WireError, match="compressed_mod"):
        run(strategy, 1, Without(2, towards_target))

    def another_shape(message: Message, context: Context) -> Message:
        reply = towards_target(message, context)
        reply.content["arrays"]["fc.bias"] = Array(np.zeros(11, np.float32))
        return reply

    def not_a_number(message: Message, context: Context) -> Message:
        reply = towards_target(message, context)
        reply.content["arrays"]["fc.bias"] = Array(np.full(10, np.nan, np.float32))
        return reply

    for train, part in [(another_shape, "other names or shapes"), (not_a_number, "fc.bias holds")]:
        grid = Grid(2, train)
        strategy = compressed(FedAvg(fraction_evaluate=0.0))
        (reply, _) = grid.send_and_receive(strategy.configure_train(1, start(), ConfigRecord(), grid))
        assert reply.has_error() and part in str(reply.error.reason), reply.error

    # A message of another wire version, and one that was cut off.
    codec = Codec([("x", [2, 3], False)], "8", True, 1)
    message = codec.encode(np.zeros(6, np.float32), 1, 0, 1, 1)
    with pytest.raises(lowbit.WireError, match="version 9"):
        codec.decode(message[:4] + b"\x09" + message[5:])
    with pytest.raises(lowbit.WireError, match="cut off"):
        codec.decode(message[:-5])
    with pytest.raises(lowbit.WireError, match="the tensors have 6"):
        codec.encode(np.zeros(5, np.float32), 1, 0, 1, 1)


def message_of(reply: Message) -> bytes:
    return reply.content.array_records["arrays"]["message-0"].numpy().tobytes()


def put(reply: Message, message: bytes) -> None:
    reply.content.array_records["arrays"]["message-0"] = Array(np.frombuffer(message, np.uint8))


def forged(message: bytes, at: int, what: bytes) -> bytes:
    """Other bytes in a message, with a checksum that is right."""
    body = message[:at] + what + message[at + len(what) : -4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def without(reply: Message, name: str) -> None:
    arrays = reply.content.array_records["arrays"]
    reply.content["arrays"] = ArrayRecord({key: array for key, array in arrays.items() if key != name})


class Meddling(Grid):
    """Changes what some nodes answer."""

    def __init__(self, meddle: dict[int, Callable[[Message], None]], nodes: int) -> None:
        super().__init__(nodes, towards_target)
        self.meddle = {self.get_node_ids()[node]: what for node, what in meddle.items()}

    def send_and_receive(self, messages: Any, timeout: float | None = None) -> list[Message]:
        replies = super().send_and_receive(messages, timeout)
        for reply in replies:
            if what := self.meddle.get(reply.metadata.src_node_id):
                what(reply)
        return replies


def test_answers_that_cannot_be_right_are_left_out_and_named() -> None:
    old: list[bytes] = []

    def large(reply: Message) -> None:
        codec = Codec([(name, list(shape), name.endswith("running_var")) for name, shape in SHAPES.items()], "32", True, 1)
        values, round, base, sender, images = codec.decode(message_of(reply))
        values[: codec.layout()[1]] *= 100
        put(reply, codec.encode(values, round, base, sender, images))

    def negative(reply: Message) -> None:
        codec = Codec([(name, list(shape), name.endswith("running_var")) for name, shape in SHAPES.items()], "32", True, 1)
        values, round, base, sender, images = codec.decode(message_of(reply))
        values[codec.layout()[1] :] = -1
        put(reply, codec.encode(values, round, base, sender, images))

    def other(reply: Message) -> None:
        codec = Codec([("fc.weight", [11, 64], False)], "32", True, 1)
        put(reply, codec.encode(np.zeros(11 * 64, np.float32), 1, 1, reply.metadata.src_node_id & 0xFFFFFFFF, 1))

    def again(reply: Message) -> None:
        old.append(message_of(reply))
        put(reply, old[0])

    def counter(reply: Message) -> None:
        reply.content.array_records["arrays"]["exact-steps"] = Array(np.zeros(3, np.int64))

    def garbage(reply: Message) -> None:
        reply.content.array_records["arrays"]["message-0"] = Array("uint8", (4,), "numpy.ndarray", b"nothing that numpy reads")

    meddle: dict[int, tuple[Callable[[Message], None], str]] = {
        2: (lambda reply: put(reply, forged(message_of(reply), 4, b"\x09")), "version 9"),
        3: (lambda reply: put(reply, forged(message_of(reply), 200, b"\0\0\xc0\x7f")), "NaN"),
        4: (other, "another model|digest"),
        5: (large, "times as large as the others'"),
        6: (again, "this is round 2"),
        7: (lambda reply: put(reply, forged(message_of(reply), 24, b"\1\2\3\4")), "says client|sender"),
        8: (lambda reply: put(reply, message_of(reply)[:-7]), "cut off"),
        9: (lambda reply: without(reply, "exact-steps"), "lacks array steps"),
        10: (counter, "expected int64 of shape"),
        11: (garbage, ""),
        12: (negative, "bn.running_var is negative"),
        13: (lambda reply: reply.content.__delitem__("lowbit"), "compressed_mod"),
        14: (lambda reply: reply.content.__setitem__("more", start()), "2 records of arrays"),
    }
    honest = [0, 1, 15, 16]
    grid = Meddling({node: what for node, (what, _) in meddle.items()}, 17)
    strategy = compressed(FedAvg(fraction_evaluate=0.0), up_bits=32, down_bits=32)
    alone = Grid(2, towards_target)
    expected = run(compressed(FedAvg(fraction_evaluate=0.0), up_bits=32, down_bits=32), 2, alone)
    found = run(strategy, 2, grid)
    # All honest nodes answer alike: the model is theirs, whatever the others say.
    for name, array in expected.items():
        assert np.allclose(found[name], array, atol=1e-6), name
    ids = grid.get_node_ids()
    for node, (_, part) in meddle.items():
        reasons = [failure.reason for failure in strategy.failures if failure.node == ids[node]]
        # A message that is sent again is right the first time.
        assert len(reasons) == (1 if node == 6 else 2), (node, reasons)
        assert all(re.search(part, reason) and "\n" not in reason for reason in reasons), (node, reasons)
    assert not {ids[node] for node in honest} & {failure.node for failure in strategy.failures}
    # Nobody else is told that its answer counted; the message that was sent again was a round's right one before.
    assert strategy._counted == {ids[node]: 2 for node in honest} | {ids[6]: 1}


def test_of_two_answers_none_is_too_large_beside_the_other() -> None:
    grid = Grid(2, lambda message, context: towards_target(message, context, 0.5 if context.node_config["client"] else 0.005))
    strategy = compressed(FedAvg(fraction_evaluate=0.0), up_bits=32, down_bits=32)
    run(strategy, 1, grid)
    assert not strategy.failures
    # One more like the second, and the first's is 100 times as long as the median one.
    grid = Grid(3, lambda message, context: towards_target(message, context, 0.005 if context.node_config["client"] else 0.5))
    strategy = compressed(FedAvg(fraction_evaluate=0.0), up_bits=32, down_bits=32)
    run(strategy, 1, grid)
    assert [failure.node for failure in strategy.failures] == grid.get_node_ids()[:1]
    assert "100 times" in strategy.failures[0].reason
