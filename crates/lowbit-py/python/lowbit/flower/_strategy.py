"""The server's side of a compressed federation: a strategy around a strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from .._errors import WireError
from .._lowbit import Codec
from ._tensors import RECORD, SERVER, Layout, apply, arrays_key, carried, carried_messages

if TYPE_CHECKING:
    from flwr.app import Array
    from numpy.typing import NDArray


class Compressed(Strategy):
    """Any strategy, whose messages are compressed both ways: see `compressed`."""

    def __init__(self, strategy: Strategy, up_bits: str, down_bits: str, seed: int) -> None:
        self.strategy = strategy
        self.up_bits, self.down_bits, self.seed = up_bits, down_bits, seed
        self.bytes_down: list[int] = []
        """Bytes of the encoded messages to the nodes, by round (of the strategy, from 0)."""
        self.bytes_up: list[int] = []
        """Bytes of the encoded messages from the nodes, by round."""
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
        self._asked: set[int] = set()
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
        self._asked = set()
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
            sent.append(Message(content=content, message_type=message.metadata.message_type, dst_node_id=node))
            self._asked.add(node)
        return sent

    def _forget(self, replies: list[Message]) -> None:
        """Of nodes that did not answer, nobody knows what they hold."""
        answered = {reply.metadata.src_node_id for reply in replies if not reply.has_error()}
        for node in self._asked - answered:
            self._held.pop(node, None)

    def _receive(self, replies: Iterable[Message], server_round: int) -> list[Message]:
        replies = list(replies)
        self._forget(replies)
        decoded = []
        for reply in replies:
            if reply.has_error():
                decoded.append(reply)
                continue
            node, content = reply.metadata.src_node_id, reply.content
            if RECORD not in content.config_records or self._layout is None:
                raise WireError(f"node {node} does not compress: give its ClientApp mods=[lowbit.flower.compressed_mod]")
            key = arrays_key(content)
            messages, exact = carried_messages(content.array_records[key])
            _count(self.bytes_up, server_round, sum(map(len, messages)))
            if len(messages) != 1:
                raise WireError(f"node {node} sent {len(messages)} messages, expected one")
            model, round = apply(self._up, self._reference, self._round, messages[0])
            if round != self._round:
                raise WireError(f"node {node} answered round {round}, this is round {self._round}")
            self._counted[node] = round
            del content[RECORD]
            content[key] = self._layout.unflatten(model, exact, self._up)
            decoded.append(reply)
        return decoded


def _count(counts: list[int], server_round: int, bytes: int) -> None:
    counts.extend([0] * (server_round + 1 - len(counts)))
    counts[server_round] += bytes


def compressed(strategy: Strategy, *, up_bits: str | int = "8", down_bits: str | int = "8", seed: int = 1) -> Compressed:
    """A strategy whose messages are compressed both ways.

    Differences travel at a width, each output channel with a scale of its own; what rounding loses is kept and sent with the
    next message (docs/federation.md). The ClientApp needs `compressed_mod`.

    Args:
        strategy: any of Flower's, whose messages have one record of arrays.
        up_bits: width of messages from the nodes: 32, 16, 8, 4, 2, 1, or ``"ternary:1"`` for the largest 1 percent.
        down_bits: the same for messages to the nodes.
        seed: seed of rounding.

    Raises:
        SettingError: no such width.
    """
    return Compressed(strategy, str(up_bits), str(down_bits), seed)
