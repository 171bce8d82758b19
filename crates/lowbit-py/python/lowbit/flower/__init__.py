"""Federations on Flower: lowbit's own app, and its codec for anybody's.

    from lowbit.flower import compressed, compressed_mod

    strategy = compressed(FedAvg(), up_bits="8", down_bits="8")     # in the ServerApp
    app = ClientApp(mods=[compressed_mod])                          # in the ClientApp

Both directions then travel as lowbit's messages (docs/wire-format.md), whatever the model is made with. Needs flwr
(``pip install lowbit[flower]``). docs/flower.md has the rest.
"""

from __future__ import annotations

from ._client import compressed_mod
from ._federation import answer, hello, serve
from ._strategy import Compressed, Failure, compressed

__all__ = ["Compressed", "Failure", "answer", "compressed", "compressed_mod", "hello", "serve"]
