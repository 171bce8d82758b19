"""Data sets."""

from __future__ import annotations

from . import _arrays
from ._errors import DataError
from ._lowbit import Input
from ._record import parsed
from ._settings import number, pairs, text
from ._settings import path as path_of
from ._settings import seed as seed_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any, Sequence

    import numpy as np
    from numpy.typing import NDArray


class Dataset:
    """Images with labels, in a training and a test part.

    Args:
        images: uint8, ``[n, height, width, channels]``, 1 channel (gray) or 3 (RGB); gray images may be ``[n, h, w]``. They
            are copied, once. A torch tensor on the CPU is fine.
        labels: whole numbers from 0, ``[n]``.
        class_names: a name for each class; without them the classes are called ``"0"``, ``"1"``, ...
        test_images: the same for images to measure on. Without them, ``test_fraction`` of each class is set apart.
        test_labels: their labels.
        test_fraction: share of the images to measure on, where there are no test images.
        seed: seed of that choice. A folder of the same images, loaded with this seed, is split alike.
        name: what messages and reports call the data.

    Raises:
        DataError: arrays of another type or shape, fewer than two classes, a class without training images.
        SettingError: a seed that is none.
    """

    __slots__ = ("_about", "_inner")

    def __init__(
        self,
        images: Any,
        labels: Any,
        *,
        class_names: Sequence[str] | None = None,
        test_images: Any = None,
        test_labels: Any = None,
        test_fraction: float = 0.2,
        seed: int = 1,
        name: str = "arrays",
    ) -> None:
        name, seed = text("name", name), seed_of(seed)
        pixels = _arrays.images(images)
        classes = _arrays.labels(labels, len(pixels))
        if (test_images is None) != (test_labels is None):
            raise DataError(f"{name}: give both test_images and test_labels, or neither")
        test = None
        if test_images is not None:
            tested = _arrays.images(test_images, "test_images")
            test = (tested, _arrays.labels(test_labels, len(tested), "test_labels"))
        if class_names is None:
            most = int(classes.max()) if len(classes) else 0
            if most > 100_000:
                raise DataError(f"{name}: label {most} without class_names: give class_names, or number classes from 0")
            class_names = [str(index) for index in range(most + 1)]
        if isinstance(class_names, str) or not hasattr(class_names, "__iter__"):
            raise DataError(f"class_names={class_names!r}: give a list of names")
        names = [text("class_names", each) for each in class_names]
        self._set(Input.of_arrays(name, names, (pixels, classes), test, number("test_fraction", test_fraction), seed))

    def _set(self, inner: Input) -> None:
        self._inner = inner
        self._about: dict[str, Any] = parsed(inner.describe())

    @classmethod
    def _of(cls, inner: Input) -> Dataset:
        self = cls.__new__(cls)
        self._set(inner)
        return self

    @property
    def name(self) -> str:
        """What messages and reports call the data."""
        return str(self._about["name"])

    @property
    def class_names(self) -> list[str]:
        """The classes' names; a label is an index into them."""
        return list(self._about["class_names"])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        height, width, channels = self._about["image_shape"]
        return height, width, channels

    @property
    def split(self) -> str:
        """How training and test images were told apart."""
        return str(self._about["split"])

    @property
    def fingerprint(self) -> str:
        """Checksum over class names, labels and pixels of all images, in order: 32 hexadecimal digits."""
        return str(self._about["fingerprint"])

    @property
    def notes(self) -> list[str]:
        """What was left out and why, a line each."""
        return list(self._about.get("notes", []))

    @property
    def train_images(self) -> NDArray[np.uint8]:
        """A copy of the training images, uint8 ``[n, height, width, channels]``."""
        return self._inner.images("train")

    @property
    def train_labels(self) -> NDArray[np.uint32]:
        """A copy of the training labels, uint32 ``[n]``."""
        return self._inner.labels("train")

    @property
    def validation_images(self) -> NDArray[np.uint8]:
        """A copy of the validation images, by which training chooses the epoch, uint8 ``[n, height, width, channels]``; none
        unless the split asks for them."""
        return self._inner.images("validation")

    @property
    def validation_labels(self) -> NDArray[np.uint32]:
        """A copy of the validation labels, uint32 ``[n]``."""
        return self._inner.labels("validation")

    @property
    def test_images(self) -> NDArray[np.uint8]:
        """A copy of the test images, uint8 ``[n, height, width, channels]``."""
        return self._inner.images("test")

    @property
    def test_labels(self) -> NDArray[np.uint32]:
        """A copy of the test labels, uint32 ``[n]``."""
        return self._inner.labels("test")

    def __len__(self) -> int:
        """How many images there are in all parts."""
        parts = ("train_images", "validation_images", "test_images")
        return sum(int(self._about.get(part, 0)) for part in parts)

    def __repr__(self) -> str:
        about = self._about
        height, width, channels = self.image_shape
        validation = about.get("validation_images", 0)
        kept = f", {validation} validation" if validation else ""
        return (
            f"<lowbit.Dataset {self.name}: {about['train_images']} train{kept} and {about['test_images']} test images of "
            f"{height}×{width}×{channels}, {len(self.class_names)} classes, {self.split}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        train = (self.train_images, self.train_labels)
        test = (self.test_images, self.test_labels)
        validation = (self.validation_images, self.validation_labels)
        return _restored, (self._inner.describe(), train, validation, test)


def inner(data: Any) -> Input:
    """The inner part of a data set."""
    if not isinstance(data, Dataset):
        raise DataError(f"data: {type(data).__name__} is no lowbit.Dataset: use lowbit.Dataset(images, labels) or lowbit.load_dataset")
    return data._inner


def _restored(
    description: str, train: tuple[Any, Any], validation: tuple[Any, Any], test: tuple[Any, Any]
) -> Dataset:
    return Dataset._of(Input.restored(description, train, validation, test))


def load_dataset(
    path: str | os.PathLike[str],
    *,
    seed: int = 1,
    limit: int = 0,
    split: str = "auto",
    image_size: int = 0,
    resize: str = "stretch",
    exif: bool = False,
    data_dir: str | os.PathLike[str] = "data",
    cache: bool = True,
) -> Dataset:
    """Load images: a folder with one folder per class, the same in a .zip or .tar(.gz), IDX, CIFAR, or parquet files; or
    ``"landcover"`` (synthetic, built in) or ``"eurosat"`` (fetched once).

    Args:
        path: what ``--data`` takes on the command line.
        seed: seed of the split into training and test images, where the data have none, and of ``limit``'s choice.
        limit: most images of each part; 0 for all.
        split: how images are told apart: ``"auto"`` (as shipped, or 80/20), ``"val:10"`` (and 10 % of the training images for
            validation, which chooses the epoch), ``"60/20/20"`` (training, validation, test), ``"spatial"`` (EuroSAT's published
            one), or lists of names: ``"train.txt,val.txt,test.txt"``.
        image_size: bring images to N×N pixels; 0 keeps their own size.
        resize: how: ``"stretch"``, or ``"short:256"``, which brings the shorter side to 256 pixels and cuts the middle N×N out.
        exif: turn images as their EXIF orientation says.
        data_dir: folder where data sets lie that have a name.
        cache: keep decoded images for the next time; those of more than 1 GiB are read from there, and need memory without it.

    Raises:
        DataError: what is there is no data set, or a broken one.
        SettingError: a value that a setting cannot have.
    """
    settings = pairs(
        data=path_of("path", path),
        seed=seed,
        limit=limit,
        split=split,
        image_size=image_size,
        resize=resize,
        exif=exif,
        data_dir=data_dir,
        cache=cache,
    )
    return Dataset._of(Input.load(settings))
