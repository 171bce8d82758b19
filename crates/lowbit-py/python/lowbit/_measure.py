"""A model over test images, and two models against each other."""

from __future__ import annotations

from . import _lowbit
from ._data import Dataset
from ._data import inner as data_of
from ._model import Model
from ._model import inner as model_of
from ._record import Record, parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    import pandas
    from numpy.typing import NDArray


class Evaluation(Record):
    """What a model says about test images."""

    accuracy: float
    """Share of right predictions, 0-1."""
    loss: float
    """Mean cross-entropy."""
    predictions: NDArray[np.uint32]
    """Predicted class of every image, ``[n]``; the first of equal logits."""
    correct: NDArray[np.bool_]
    """Whether it is right, ``[n]``."""
    confusion: NDArray[np.int64]
    """Images per true class (row) and predicted class (column)."""
    class_names: list[str]
    """Names of the classes."""
    logits_digest: str
    """Digest of all logits' bits: equal where two evaluations agree to the bit."""
    bit_exact_with_training: bool | None
    """Whether training's last evaluation gave the same logits; None where there was none on these data."""
    seen: int | None
    """Images known to have been training images of the model; None where nothing is known about its training."""
    data: str
    """Name of the data."""

    def __repr__(self) -> str:
        return f"<lowbit.Evaluation on {self.data}: {100 * self.accuracy:.2f} % of {len(self.correct)} images right, loss {self.loss:.4f}>"

    def to_frame(self) -> pandas.DataFrame:
        """The confusion matrix as a pandas frame (pandas must be installed)."""
        import pandas

        return pandas.DataFrame(self.confusion, index=self.class_names, columns=self.class_names)


def evaluate(model: Model, data: Dataset, *, all: bool = False) -> Evaluation:
    """Measure a model on the test images of data.

    Args:
        model: f32 or quantized.
        data: images of the model's shape and classes.
        all: measure also where test images are known to have been training images of the model.

    Raises:
        SeenError: they were, and ``all`` is not set.
        DataError: classes or shapes are others than the model's.
    """
    import numpy as np

    found: dict[str, Any] = parsed(_lowbit.evaluate(model_of(model), data_of(data), all))
    found["predictions"] = np.array(found["predictions"], dtype=np.uint32)
    found["correct"] = np.array(found["correct"], dtype=np.bool_)
    found["confusion"] = np.array(found["confusion"], dtype=np.int64)
    return Evaluation(**found)


class Comparison(Record):
    """Two models on the same test images."""

    models: list[dict[str, Any]]
    """Of each: name, label (its widths), bits, size_bytes, accuracy_percent, loss, confusion, logits_digest."""
    compression_ratio: float
    """Bytes of the first model's file over those of the second's."""
    accuracy_drop_points: dict[str, float]
    """Accuracy of the first minus that of the second in percentage points: value, and low and high of the 95 % interval,
    paired over the images (Agresti & Min 2005)."""
    predictions_changed: int
    """Test images whose predicted class differs."""
    speed: list[dict[str, Any]]
    """By batch and threads, timed in turn: first_ms, second_ms, and speedup (the first's time over the second's); empty without
    ``speed``."""
    layers: list[dict[str, Any]]
    """By layer, on one thread: first_ms and second_ms; empty without ``speed``, or where the graphs differ."""
    class_names: list[str]
    """Names of the classes."""
    test_images: int
    """How many images were measured."""
    data: str
    """Name of the data."""
    synthetic: bool
    """Whether the data were generated."""
    machine: str
    """What it was measured on."""
    _figures: str

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The table of the command line: what, the first model, the second, one against the other."""
        a, b = self.models
        drop = self.accuracy_drop_points
        rows = [
            ("file, bytes", f"{a['size_bytes']:,}", f"{b['size_bytes']:,}", f"{self.compression_ratio:.2f}× smaller"),
            (
                "accuracy, %",
                f"{a['accuracy_percent']:.2f}",
                f"{b['accuracy_percent']:.2f}",
                _points(drop),
            ),
            ("loss", f"{a['loss']:.4f}", f"{b['loss']:.4f}", f"{self.predictions_changed:,} predictions changed"),
        ]
        for cell in self.speed:
            threads = "thread" if cell["threads"] == 1 else "threads"
            ratio = cell["speedup"]
            rows.append(
                (
                    f"img/s, batch {cell['batch']}, {cell['threads']} {threads}",
                    f"{1e3 * cell['batch'] / cell['first_ms']['median']:.0f}",
                    f"{1e3 * cell['batch'] / cell['second_ms']['median']:.0f}",
                    f"{ratio['median']:.2f}× faster [{ratio['quartile_1']:.2f}, {ratio['quartile_3']:.2f}]",
                )
            )
        return rows

    def _names(self) -> tuple[str, str]:
        a, b = (str(each["label"]) for each in self.models)
        return (f"first, {a}", f"second, {b}") if a == b else (a, b)

    def __str__(self) -> str:
        table = [("", *self._names(), "second against first"), *self.rows()]
        widths = [max(len(row[column]) for row in table) for column in range(4)]
        lines = ["  ".join(cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in enumerate(zip(row, widths))) for row in table]
        return "\n".join([f"{self.data}, {self.test_images} test images, {self.machine}", *lines])

    def __repr__(self) -> str:
        a, b = self._names()
        drop = self.accuracy_drop_points
        return (
            f"<lowbit.Comparison {a} against {b} on {self.data}: {self.compression_ratio:.2f}× smaller, accuracy "
            f"{_points(drop, ' points')}>"
        )

    def _repr_html_(self) -> str:
        """The table and the report's charts, for notebooks."""
        from html import escape

        def line(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        head = line(("", *self._names(), "second against first"), "th")
        body = "".join(line(row, "td") for row in self.rows())
        caption = escape(f"{self.data}, {self.test_images} test images, {self.machine}")
        return f"<p>{caption}</p><table><thead>{head}</thead><tbody>{body}</tbody></table>{self._figures}"

    def to_frame(self) -> pandas.DataFrame:
        """The table as a pandas frame (pandas must be installed)."""
        import pandas

        a, b = self._names()
        return pandas.DataFrame(self.rows(), columns=["", a, b, "second against first"]).set_index("")


def compare(a: Model, b: Model, data: Dataset, *, speed: bool = True, all: bool = False) -> Comparison:
    """Measure two models on the same test images: sizes, accuracies with the paired 95 % interval of their difference, and
    speeds, timed in turn as ``lowbit compare`` does.

    Args:
        a: the reference, usually f32.
        b: the other, usually quantized.
        data: images of the models' shape and classes.
        speed: time both; takes some seconds.
        all: measure also where test images are known to have been training images.

    Raises:
        SeenError: they were, and ``all`` is not set.
        DataError: classes or shapes are others than the models'.
    """
    found, figures = _lowbit.compare(model_of(a), model_of(b), data_of(data), all, speed)
    return Comparison(**parsed(found), _figures=figures)


def _points(drop: dict[str, float], unit: str = "") -> str:
    """What was lost, as points gained with their interval; nothing has no sign of its own."""
    value, low, high = (round(-drop[key], 2) + 0.0 for key in ("value", "high", "low"))
    return f"{value:+.2f}{unit} [{low:+.2f}, {high:+.2f}]"
