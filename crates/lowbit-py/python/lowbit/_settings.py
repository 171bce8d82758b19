"""Keyword arguments as the settings of the command line."""

from __future__ import annotations

import operator
import os

from . import _lowbit
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


def number(name: str, value: Any) -> float:
    """A number of any kind."""
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):
        raise SettingError(f"{name}={value!r}: must be a number") from None


#: What a seed can be.
MOST_SEED = 2**64 - 1


def seed(value: Any) -> int:
    """A seed."""
    return whole("seed", value, 0, MOST_SEED)


def text(name: str, value: Any) -> str:
    """A value as text, which the compiled half takes as UTF-8."""
    found = str(value)
    try:
        found.encode()
    except UnicodeEncodeError:
        raise SettingError(f"{name}={found!a}: is not UTF-8") from None
    return found


def path(name: str, value: Any) -> str:
    """The name of a file, of any bytes."""
    try:
        return os.fsdecode(value)
    except TypeError:
        raise SettingError(f"{name}={value!r}: must be the name of a file") from None


def pairs(**given: int | float | str | bool | os.PathLike[str] | None) -> list[tuple[str, str]]:
    """The settings that were given, as text."""

    def written(key: str, value: Any) -> str:
        # numpy has a truth of its own.
        if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
            return "true" if value else "false"
        return text(key, path(key, value) if isinstance(value, (bytes, os.PathLike)) else value)

    return [(key, written(key, value)) for key, value in given.items() if value is not None]


def set_num_threads(threads: int) -> None:
    """Set the number of threads of later calls; 0 for one per core.

    Raises:
        SettingError: not a whole number from 0 to 1024.
    """
    _lowbit.set_num_threads(whole("threads", threads, 0, 1024))
