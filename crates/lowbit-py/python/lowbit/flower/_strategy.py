"""The server's side of a compressed federation: a strategy around a strategy."""

from __future__ import annotations

from logging import WARNING
from typing import TYPE_CHECKING, Any, Iterable, NamedTuple

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from .._errors import WireError
from .._lowbit import Codec, too_large
from .._settings import seed as seed_of
from .._settings import text
from ._tensors import RECORD, SERVER, Layout, apply, arrays_key, carried, carried_messages, one_line

if TYPE_CHECKING:
    from flwr.app import Array
    from numpy.typing import NDArray


class Failure(NamedTuple):
    """A node whose answer did not count."""

    round: int
    """Round of the strategy."""
    node: int
    """Its id."""
    reason: str
    """Why."""


REFUSED = 0
"""Code of the error in place of an answer that was refused: Flower's "unknown", since its others mean something else. What it was
stands in the reason."""


class Compressed(Strategy):
    """Any strategy, whose messages are compressed both ways: see `compressed`."""

    def __init__(self, strategy: Strategy, up_bits: str, down_bits: str, seed: int) -> None:
        self.strategy = strategy
        self.up_bits, self.down_bits, self.seed = up_bits, down_bits, seed
        self.bytes_down: list[int] = []
        """Bytes of the encoded messages to the nodes, by round (of the strategy, from 0)."""
        self.bytes_up: list[int] = []
        """Bytes of the encoded messages from the nodes, by round; of those that were refused too."""
        self.failures: list[Failure] = []
        """Nodes that failed, and answers that were refused."""
        self._layout: Layout | None = None
        self._up: Codec
        self._down: Codec
        # The model, and the model as the nodes hold it: what the latter lacks goes with the next message.
        self._global: NDArray[np.float32]
        self._reference: NDArray[np.float32]
        self._exact: dict[str, Array] = {}
        self._round = 0
        self._log: list[tuple[int, bytes]] = []
        self._held: dict[int, int] = {}
        self._counted: dict[int, int] = {}
        self._asked: dict[int, Message] = {}
        # Checked here, and not in the first round.
        for bits in (up_bits, down_bits):
            Codec([("x", [1], False)], bits, True, seed)

    def summary(self) -> None:
        """Log the inner strategy."""
        self.strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages, encoded."""
        return self._send(self.strategy.configure_train(server_round, arrays, config, grid), server_round)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages, encoded."""
        return self._send(self.strategy.configure_evaluate(server_round, arrays, config, grid), server_round)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The inner strategy's aggregate of the decoded replies."""
        return self.strategy.aggregate_train(server_round, self._receive(replies, server_round))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The inner strategy's aggregate."""
        replies = list(replies)
        self._forget(replies)
        return self.strategy.aggregate_evaluate(server_round, replies)

    def _begin(self, arrays: ArrayRecord) -> None:
        """Makes the message of a model, if it is another than the last."""
        if self._layout is None:
            self._layout = Layout.of(arrays)
            self._up = self._layout.codec(self.up_bits, self.seed)
            self._down = self._layout.codec(self.down_bits, self.seed)
            self._global, self._exact = self._layout.flatten(arrays, self._down)
            self._reference, self._round = self._global, 1
            return
        model, self._exact = self._layout.flatten(arrays, self._down)
        if np.array_equal(model, self._global):
            return
        self._global, self._round = model, self._round + 1
        difference = model.copy()
        trained = self._down.layout()[1]
        difference[:trained] -= self._reference[:trained]
        message = self._down.encode(difference, self._round, self._round - 1, SERVER, 0)
        # What the nodes make of it, not what was meant.
        self._reference, _ = apply(self._down, self._reference, self._round - 1, message)
        self._log.append((self._round, message))
        while len(self._log) > 1 and sum(len(each) for _, each in self._log) > 4 * len(model):
            self._log.pop(0)

    def _messages(self, node: int) -> tuple[list[bytes], bool]:
        """What brings a node to this round's model: what it missed, or the model as it stands; and whether it is whole."""
        held = self._held.get(node, 0)
        self._held[node] = self._round
        missed = [message for round, message in self._log if round > held]
        unbroken = held == self._round or (held > 0 and len(missed) == self._round - held)
        if unbroken and sum(map(len, missed)) <= 4 * len(self._reference):
            return missed, False
        return [self._down.encode(self._reference, self._round, 0, SERVER, 0)], True

    def _send(self, messages: Iterable[Message], server_round: int) -> list[Message]:
        sent = []
        self._asked = {}
        for message in messages:
            key = arrays_key(message.content)
            self._begin(message.content.array_records[key])
            node = message.metadata.dst_node_id
            encoded, whole = self._messages(node)
            _count(self.bytes_down, server_round, sum(map(len, encoded)))
            content = RecordDict({name: record for name, record in message.content.items() if name != key})
            content[key] = carried(encoded, self._exact)
            how: dict[str, Any] = {
                "round": self._round,
                "counted": self._counted.get(node, 0),
                "up-bits": self.up_bits,
                "down-bits": self.down_bits,
                "seed": self.seed,
            }
            if whole and self._layout is not None:
                how["layout"] = self._layout.text()
            content[RECORD] = ConfigRecord(how)
            self._asked[node] = Message(content=content, message_type=message.metadata.message_type, dst_node_id=node)
            sent.append(self._asked[node])
        return sent

    def _forget(self, replies: list[Message]) -> None:
        """Of nodes that did not answer, nobody knows what they hold."""
        answered = {reply.metadata.src_node_id for reply in replies if not reply.has_error()}
        for node in set(self._asked) - answered:
            self._held.pop(node, None)

    def _receive(self, replies: Iterable[Message], server_round: int) -> list[Message]:
        """The replies, decoded; an error in place of each that must not count."""
        replies = list(replies)
        self._forget(replies)
        self._are_compressed(replies)
        decoded: list[Message] = []
        opened: list[tuple[int, float]] = []
        for reply in replies:
            node = reply.metadata.src_node_id
            if reply.has_error():
                self._failed(server_round, node, f"its node failed: {one_line(str(reply.error.reason))}")
                decoded.append(reply)
                continue
            try:
                norm = self._open(reply, server_round)
            # Whatever a node sends, it must not end the round of the others.
            except Exception as error:
                # What it holds, nobody knows.
                self._held.pop(node, None)
                decoded.append(self._refused(reply, server_round, one_line(str(error)) or type(error).__name__))
            else:
                opened.append((len(decoded), norm))
                decoded.append(reply)
        for (at, _), reason in zip(opened, too_large([norm for _, norm in opened])):
            reply = decoded[at]
            if reason is None:
                self._counted[reply.metadata.src_node_id] = self._round
            else:
                decoded[at] = self._refused(reply, server_round, reason)
        return decoded

    def _are_compressed(self, replies: list[Message]) -> None:
        """Raises if no node has the mod: the federation's apps are not what they should be."""
        answers = [reply for reply in replies if not reply.has_error()]
        if answers and not any(RECORD in reply.content.config_records for reply in answers):
            node = answers[0].metadata.src_node_id
            raise WireError(f"node {node} does not compress: give its ClientApp mods=[lowbit.flower.compressed_mod]")

    def _open(self, reply: Message, server_round: int) -> float:
        """Decodes an answer in place, after the checks of lowbit's own server; returns the length of its update."""
        node, content = reply.metadata.src_node_id, reply.content
        if node not in self._asked:
            raise WireError("it was not asked")
        if RECORD not in content.config_records or self._layout is None:
            raise WireError("it does not compress: give its ClientApp mods=[lowbit.flower.compressed_mod]")
        key = arrays_key(content)
        messages, exact = carried_messages(content.array_records[key])
        _count(self.bytes_up, server_round, sum(map(len, messages)))
        if len(messages) != 1:
            raise WireError(f"it sent {len(messages)} messages, expected one")
        model, norm = self._up.open(messages[0], node & 0xFFFFFFFF, self._round)
        trained = self._up.layout()[1]
        model[:trained] += self._reference[:trained]
        arrays = self._layout.unflatten(model, exact, self._up)
        del content[RECORD]
        content[key] = arrays
        return norm

    def _refused(self, reply: Message, server_round: int, reason: str) -> Message:
        """An error in place of an answer; strategies leave it out."""
        node = reply.metadata.src_node_id
        self._failed(server_round, node, reason)
        error = Error(code=REFUSED, reason=reason)
        asked = self._asked.get(node)
        if asked is None:
            # Nobody has asked it: there is no message that this one answers.
            asked = Message(content=RecordDict(), message_type=reply.metadata.message_type, dst_node_id=node)
        return Message(error, reply_to=asked)

    def _failed(self, server_round: int, node: int, reason: str) -> None:
        self.failures.append(Failure(server_round, node, reason))
        log(WARNING, "round %s: node %s does not count: %s", server_round, node, reason)


def _count(counts: list[int], server_round: int, bytes: int) -> None:
    counts.extend([0] * (server_round + 1 - len(counts)))
    counts[server_round] += bytes


def compressed(strategy: Strategy, *, up_bits: str | int = "8", down_bits: str | int = "8", seed: int = 1) -> Compressed:
    """A strategy whose messages are compressed both ways.

    Differences travel at a width, each output channel with a scale of its own; what rounding loses is kept and sent with the
    next message (docs/federation.md). The ClientApp needs `compressed_mod`.

    Answers that cannot be right are left out of the round and stand in `Compressed.failures`: those that cannot be read, of
    another version or another round, with other names or shapes, with numbers that are not finite, with negative variances; and
    of three or more, an update that is ten times as long as the median one.

    Args:
        strategy: any of Flower's, whose messages have one record of arrays.
        up_bits: width of messages from the nodes: 32, 16, 8, 4, 2, 1, or ``"ternary:1"`` for the largest 1 percent.
        down_bits: the same for messages to the nodes.
        seed: seed of rounding.

    Raises:
        SettingError: no such width, or a seed that is none.
    """
    return Compressed(strategy, text("up_bits", up_bits), text("down_bits", down_bits), seed_of(seed))
