"""A node's side of a compressed federation: a mod around any ClientApp."""

from __future__ import annotations

from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp.typing import ClientAppCallable

from .._errors import WireError
from ._tensors import RECORD, Layout, apply, arrays_key, carried, carried_messages

STATE = "lowbit-state"
"""Names of the records in which a node keeps its model and what it could not say."""


def compressed_mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Decode what comes, call the app, encode what goes; for servers with `compressed`. Others' messages pass unchanged.

    Raises:
        WireError: the message cannot be read, or changes a model that this node does not hold. Flower then tells the server
            that the node failed, and it is sent the whole model next time.
    """
    content = message.content
    if RECORD not in content.config_records:
        return call_next(message, context)
    how: dict[str, Any] = dict(content.config_records[RECORD])
    del content[RECORD]
    key = arrays_key(content)
    messages, exact = carried_messages(content.array_records[key])
    state = context.state
    kept: dict[str, Any] = dict(state.config_records.get(STATE + "-numbers", ConfigRecord()))
    arrays = state.array_records.get(STATE, ArrayRecord())
    vectors = {name: array.numpy() for name, array in arrays.items()}
    text = how.get("layout", kept.get("layout"))
    if text is None:
        raise WireError("the message changes a model that this node does not hold")
    layout = Layout.read(str(text))
    down = layout.codec(str(how["down-bits"]), int(how["seed"]))
    model, held = vectors.get("model"), int(kept.get("round", 0))
    for each in messages:
        model, held = apply(down, model, held, each)
    if model is None or held != int(how["round"]):
        raise WireError(f"the model held is that of round {held}, the server is in round {how['round']}")
    residual = vectors.get("residual", np.zeros(0, np.float32))
    pending, answered = vectors.get("pending", residual), int(kept.get("answered", 0))
    if answered and int(how["counted"]) == answered:
        residual, answered = pending, 0
    content[key] = layout.unflatten(model, exact, down)
    reply = call_next(message, context)
    if not reply.has_error() and len(reply.content.array_records) > 0:
        key = arrays_key(reply.content)
        up = layout.codec(str(how["up-bits"]), int(how["seed"]))
        values, exact = layout.flatten(reply.content.array_records[key], up)
        trained = up.layout()[1]
        values[:trained] -= model[:trained]
        if len(residual) == trained:
            values[:trained] += residual
        sender = context.node_id & 0xFFFFFFFF
        encoded = up.encode(values, held, held, sender, 1)
        arrives = up.decode(encoded)[0]
        pending, answered = values[:trained] - arrives[:trained], held
        reply.content[key] = carried([encoded], exact)
        reply.content[RECORD] = ConfigRecord({"round": held})
    numbers = {"model": model, "residual": residual, "pending": pending}
    state[STATE] = ArrayRecord({name: Array(np.ascontiguousarray(values)) for name, values in numbers.items()})
    state[STATE + "-numbers"] = ConfigRecord({"round": held, "answered": answered, "layout": layout.text()})
    return reply
