"""Flower's arrays as the codec's flat vector, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict

from .._errors import WireError
from .._lowbit import Codec

if TYPE_CHECKING:
    from numpy.typing import NDArray

SERVER = 0xFFFFFFFF
"""The sender that is the server."""
RECORD = "lowbit"
"""Name of the record that says how a message is encoded."""
STATISTICS = ("running_mean", "running_var")
"""Ends of the names of tensors that are sent as they are."""


class Layout:
    """Names, shapes and types of a model's arrays, in the order of their record.

    Arrays of floats are compressed, with at most the precision of float32; others (counters) travel as they are.
    """

    def __init__(self, arrays: list[tuple[str, list[int], str]]) -> None:
        self.arrays = arrays

    @classmethod
    def of(cls, record: ArrayRecord) -> Layout:
        return cls([(name, list(array.shape), str(np.dtype(array.dtype))) for name, array in record.items()])

    @classmethod
    def read(cls, text: str) -> Layout:
        try:
            return cls([(str(name), [int(x) for x in shape], str(np.dtype(kind))) for name, shape, kind in json.loads(text)])
        except (TypeError, ValueError) as error:
            raise WireError(f"the message's layout cannot be read: {error}") from error

    def text(self) -> str:
        return json.dumps(self.arrays)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self.text() == other.text()

    def _floats(self) -> list[tuple[str, list[int], str]]:
        return [each for each in self.arrays if np.dtype(each[2]).kind == "f"]

    def codec(self, bits: str, seed: int) -> Codec:
        """The codec of its floats."""
        tensors = [(name, shape, name.endswith(STATISTICS)) for name, shape, _ in self._floats()]
        if not tensors:
            raise WireError("the model has no array of floats")
        return Codec(tensors, bits, True, seed)

    def flatten(self, record: ArrayRecord, codec: Codec) -> tuple[NDArray[np.float32], dict[str, Array]]:
        """The floats as one vector, and the other arrays."""
        found = Layout.of(record)
        if [each[:2] for each in found.arrays] != [each[:2] for each in self.arrays]:
            raise WireError("the arrays have other names or shapes than those of the first round")
        order, _ = codec.layout()
        parts = [record[name].numpy().astype(np.float32).ravel() for name, _ in order]
        exact = {}
        for (name, _, kind), (_, _, now) in zip(self.arrays, found.arrays):
            if np.dtype(kind).kind != "f":
                # A strategy's mean of whole numbers is a fraction: it becomes what it was.
                exact[name] = record[name] if now == kind else Array(np.asarray(np.rint(record[name].numpy()).astype(kind)))
        return np.concatenate(parts), exact

    def unflatten(self, flat: NDArray[np.float32], exact: dict[str, Array], codec: Codec) -> ArrayRecord:
        """The record of a vector and the other arrays."""
        found: dict[str, NDArray[np.float32]] = {}
        at = 0
        for name, shape in codec.layout()[0]:
            size = int(np.prod(shape, dtype=np.int64))
            found[name] = flat[at : at + size].reshape(shape)
            at += size
        record = ArrayRecord()
        for name, shape, kind in self.arrays:
            if name in found:
                record[name] = Array(np.array(found[name], dtype=kind, order="C"))
                continue
            if name not in exact:
                raise WireError(f"the message lacks array {name}")
            given = exact[name].numpy()
            if list(given.shape) != shape or given.dtype != np.dtype(kind):
                raise WireError(f"array {name} is {given.dtype} of shape {list(given.shape)}, expected {kind} of shape {shape}")
            record[name] = exact[name]
        return record


def apply(codec: Codec, model: NDArray[np.float32] | None, held: int, message: bytes) -> tuple[NDArray[np.float32], int]:
    """The model after a message, and its round; it was `model`, of round `held`, before."""
    values, round, base, _, _ = codec.decode(message)
    if base == 0:
        return values, round
    if model is None or base != held:
        raise WireError(f"the model held is that of round {held}, the message changes that of round {base}")
    trained = codec.layout()[1]
    values[:trained] += model[:trained]
    return values, round


def carried(messages: list[bytes], exact: dict[str, Array] | None = None) -> ArrayRecord:
    """Messages, and arrays that travel as they are, in a record."""
    record = ArrayRecord({f"message-{at}": Array(np.frombuffer(each, np.uint8)) for at, each in enumerate(messages)})
    for name, array in (exact or {}).items():
        record[f"exact-{name}"] = array
    return record


def carried_messages(record: ArrayRecord) -> tuple[list[bytes], dict[str, Array]]:
    """What `carried` put into a record."""
    messages: list[bytes] = []
    while (array := record.get(f"message-{len(messages)}")) is not None:
        messages.append(array.numpy().astype(np.uint8).tobytes())
    exact = {name.removeprefix("exact-"): array for name, array in record.items() if name.startswith("exact-")}
    return messages, exact


def one_line(text: str) -> str:
    """A text of others, as errors are here."""
    return " ".join(text.split())


def arrays_key(content: RecordDict) -> str:
    """The key of the one record of arrays."""
    keys = list(content.array_records)
    if len(keys) != 1:
        raise WireError(f"the message has {len(keys)} records of arrays, expected one")
    return keys[0]
