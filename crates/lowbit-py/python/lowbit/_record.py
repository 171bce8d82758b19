"""Results: named values that do not change. (`dataclasses` would take longer to import than all of lowbit.)"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parsed(text: str) -> Any:
    """The value of a JSON text."""
    import json

    return json.loads(text)


class Record:
    """Values under the names that the class annotates."""

    def __init__(self, **values: Any) -> None:
        names = set(type(self).__annotations__)
        if unknown := set(values) ^ names:
            raise TypeError(f"{type(self).__name__}: {', '.join(sorted(unknown))} unknown or missing")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be removed")

    def _asdict(self) -> dict[str, Any]:
        """The values by name."""
        return dict(self.__dict__)
