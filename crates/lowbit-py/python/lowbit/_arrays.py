"""numpy arrays as the compiled half takes them: C-contiguous, of the right type; in place where they are so already."""

from __future__ import annotations

from ._errors import DataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray


def array(given: Any, what: str) -> NDArray[Any]:
    """`given` as an array, without a copy where it has a buffer: numpy, torch on the CPU, DLPack, the array interface."""
    import numpy as np

    if isinstance(given, np.ndarray):
        return given
    try:
        if not hasattr(given, "__array__") and hasattr(given, "__dlpack__"):
            return np.from_dlpack(given)
        return np.asarray(given)
    except Exception as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{what}: {type(given).__name__} cannot be read as an array: {line}") from error


def images(given: Any, what: str = "images") -> NDArray[np.uint8]:
    """Images `[n, h, w, c]` of uint8; gray ones may lack the last axis. A copy only if they are not C-contiguous."""
    import numpy as np

    found = array(given, what)
    if found.dtype != np.uint8:
        remedy = "give pixels of 0 to 255"
        if found.dtype.kind == "f":
            remedy = "pixels of 0 to 1 become it with (255 * images).round().astype('uint8')"
        raise DataError(f"{what} have dtype {found.dtype}, expected uint8: {remedy}")
    if found.ndim == 3:
        found = found[..., None]
    if found.ndim != 4:
        raise DataError(f"{what} have shape {list(found.shape)}, expected [n, height, width, channels]")
    return np.ascontiguousarray(found)


def labels(given: Any, count: int, what: str = "labels") -> NDArray[np.uint32]:
    """Labels `[n]` of whole numbers from 0."""
    import numpy as np

    found = array(given, what)
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise DataError(
            f"{what} have dtype {found.dtype} and shape {list(found.shape)}, expected whole numbers [n]"
        )
    if len(found) != count:
        raise DataError(f"{len(found)} {what} for {count} images")
    if count and (found.min() < 0 or found.max() > 0xFFFFFFFF):
        raise DataError(f"{what} lie in {found.min()}..{found.max()}, expected classes from 0")
    return np.ascontiguousarray(found, dtype=np.uint32)


def floats(given: Any, what: str) -> NDArray[np.float32]:
    """Numbers of float32. A copy only if they are not C-contiguous."""
    import numpy as np

    found = array(given, what)
    if found.dtype != np.float32:
        raise DataError(f"{what} has dtype {found.dtype}, expected float32: use .astype('float32')")
    return np.ascontiguousarray(found)
