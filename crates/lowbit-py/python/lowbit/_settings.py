"""Keyword arguments as the settings of the command line."""

from __future__ import annotations

import os


def pairs(**given: int | float | str | bool | os.PathLike[str] | None) -> list[tuple[str, str]]:
    """The settings that were given, as text."""

    def text(value: int | float | str | bool | os.PathLike[str]) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        return os.fspath(value) if isinstance(value, os.PathLike) else str(value)

    return [(key, text(value)) for key, value in given.items() if value is not None]
