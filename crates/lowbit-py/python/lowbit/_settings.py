"""Keyword arguments as the settings of the command line."""

from __future__ import annotations

import operator
import os

from ._errors import SettingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number of any kind within its bounds."""
    try:
        number = operator.index(value)
    except TypeError:
        raise SettingError(f"{name}={value!r}: must be a whole number") from None
    if not low <= number <= high:
        raise SettingError(f"{name}={number}: must lie in {low}..{high}")
    return number


def pairs(**given: int | float | str | bool | os.PathLike[str] | None) -> list[tuple[str, str]]:
    """The settings that were given, as text."""

    def text(value: int | float | str | bool | os.PathLike[str]) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        return os.fspath(value) if isinstance(value, os.PathLike) else str(value)

    return [(key, text(value)) for key, value in given.items() if value is not None]
