"""Which model to ship."""

from __future__ import annotations

import os

from . import _lowbit
from ._record import Record, parsed
from ._settings import MOST_SEED, number, pairs, whole
from ._settings import path as path_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import pandas


class Recommendation(Record):
    """What `recommend` found."""

    sentence: str
    """What to ship, and why."""
    next: str | None
    """What would be better still and is not shown to fit, and how many images would tell."""
    ship: str
    """Name of the model to ship; ``"FP32"`` for the one that was given."""
    fits: bool
    """Whether a quantized model was shown to lose no more than was allowed."""
    folder: str
    """Where ``recommendation.json``, ``report.html`` and the models are."""
    about: dict[str, Any]
    """All of ``recommendation.json``: a row for each model that was tried, what was not tried, machine, ..."""
    table: list[list[str]]
    """The table of the command line, its header first."""
    preprocessing: str | None
    """How pixels become the input of an ONNX model, where its labels had to tell: what was chosen, and what others would give."""

    @property
    def file(self) -> str | None:
        """The file of the model to ship, which `lowbit.load` reads; none for FP32."""
        return self._file("file")

    @property
    def onnx(self) -> str | None:
        """The same model as an ONNX file, where it has a form in ONNX."""
        return self._file("onnx")

    def _file(self, key: str) -> str | None:
        names = [row[key] for row in self.about["rows"] if row["name"] == self.ship]
        return os.path.join(self.folder, names[0]) if names and names[0] else None

    def __repr__(self) -> str:
        return f"<lowbit.Recommendation: {self.sentence}>"

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self.table)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in self.table]
        said = [self.preprocessing] if self.preprocessing else []
        return "\n".join([*said, *lines, "", self.sentence, *([self.next] if self.next else [])])

    def to_frame(self) -> pandas.DataFrame:
        """The table as a pandas frame (pandas must be installed)."""
        import pandas

        return pandas.DataFrame(self.table[1:], columns=self.table[0]).set_index(self.table[0][0])


def recommend(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    max_drop: float = 1.0,
    seconds: float = 300.0,
    train: float | None = None,
    target: str = "latency",
    batch: int | None = None,
    calibration_images: int = 512,
    preprocess: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    limit: int = 0,
    image_size: int = 0,
    resize: str = "stretch",
    exif: bool = False,
    all: bool = False,
    split_seed: int | None = None,
    seed: int = 1,
    data_dir: str | os.PathLike[str] = "data",
    cache: bool = True,
    out: str | os.PathLike[str] = "outputs",
    resume: bool = False,
) -> Recommendation:
    """Try quantized models and say which to ship (docs/recommend.md): one half of the images chooses, the other judges. It does
    what ``lowbit recommend`` does, with the same files, so both are named by their paths.

    Args:
        model: a file with f32 weights, lowbit's or ONNX.
        data: what ``--data`` takes on the command line.
        max_drop: points of accuracy that may be lost.
        seconds: how long trying may take.
        train: how many seconds quantization-aware fine-tuning of the widths that rounding spoils may take besides; none for none.
        target: what the model should be best at: ``"latency"``, ``"throughput"`` or ``"size"``.
        batch: images of a timed call; 1, or 64 for throughput.
        calibration_images: training images that set activation ranges, at most.
        preprocess: how pixels become the input of an ONNX model (as in `lowbit.load`). Where neither this nor the file says it,
            labelled images tell: `Recommendation.preprocessing` has what they said.
        labels: a file with the names of an ONNX model's classes, one a line.
        limit: most images of each part; 0 for all.
        image_size: bring images to N×N pixels; 0 for the model's, or their own size.
        resize: how, as in `lowbit.load_dataset`.
        exif: turn images as their EXIF orientation says.
        all: measure on all images, training images too.
        split_seed: measure on the split that this seed draws, seen or not.
        seed: seed of every choice of images.
        data_dir: folder where data sets lie that have a name.
        cache: keep decoded images for the next time.
        out: folder for results; they go into its folder ``recommend``.
        resume: take quantized models that an earlier run has made.

    Raises:
        SeenError: images were training images of the model, and nothing says that they may be used.
        DataError: too few images, others than the model's, or a preprocessing that cannot be right.
        SettingError: a value that a setting cannot have.
    """
    path = path_of("model", model)
    settings = pairs(
        data=path_of("data", data),
        calibration_images=calibration_images,
        preprocess=preprocess,
        labels=labels,
        limit=limit,
        image_size=image_size,
        resize=resize,
        exif=exif,
        seed=seed,
        data_dir=data_dir,
        cache=cache,
        out=out,
    )
    text, header, rows, preprocessing = _lowbit.recommend(
        path,
        settings,
        number("max_drop", max_drop),
        number("seconds", seconds),
        str(target),
        None if batch is None else whole("batch", batch, 1, 4096),
        all,
        None if split_seed is None else whole("split_seed", split_seed, 0, MOST_SEED),
        resume,
        None if train is None else number("train", train),
    )
    about: dict[str, Any] = parsed(text)
    verdict = about["verdict"]
    return Recommendation(
        sentence=verdict["sentence"],
        next=verdict.get("next"),
        ship=verdict["ship"],
        fits=verdict["fits"],
        folder=os.path.join(path_of("out", out), "recommend"),
        about=about,
        table=[header, *rows],
        preprocessing=preprocessing,
    )
