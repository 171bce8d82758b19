"""Models."""

from __future__ import annotations

from . import _arrays
from ._data import Dataset
from ._errors import ModelError, SettingError
from ._lowbit import Model as _Inner
from ._record import Record, parsed
from ._settings import pairs, text, whole
from ._settings import path as path_of
from ._settings import seed as seed_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray


class Exported(Record):
    """What an ONNX file came to."""

    size_bytes: int
    """Bytes of the file."""
    opset: int
    """Version of ONNX's operators that it needs: the lowest that has all of them."""
    notes: list[str]
    """What is to be known of it: layers whose sums other engines may cut, weights that were changed."""

    def __repr__(self) -> str:
        notes = "".join(f"; {note}" for note in self.notes)
        return f"<lowbit.Exported: {self.size_bytes:,} bytes, opset {self.opset}{notes}>"


class Model:
    """A model of f32 weights, or of packed integers: `load`, `zoo` and `quantize` make one.

    Calling it runs it: uint8 images ``[n, height, width, channels]`` in, float32 logits ``[n, classes]`` out. C-contiguous
    arrays are read where they lie; others are copied once.
    """

    __slots__ = ("_inner",)

    _inner: _Inner

    def __init__(self) -> None:
        raise ModelError("a model comes from lowbit.load(file), lowbit.zoo(name) or lowbit.quantize(model, data)")

    @classmethod
    def _of(cls, inner: _Inner) -> Model:
        self = cls.__new__(cls)
        self._inner = inner
        return self

    def __call__(self, images: Any) -> NDArray[np.float32]:
        """The logits of images.

        Args:
            images: uint8 ``[n, height, width, channels]``; anything numpy can look at, a torch tensor on the CPU too.

        Returns:
            float32 ``[n, classes]``.

        Raises:
            DataError: images of another type or shape.
        """
        return self._inner.run(_arrays.images(images))

    def predict(self, images: Any) -> NDArray[np.intp]:
        """The classes of images, ``[n]``: indices into `class_names`, the first of equal logits."""
        result: NDArray[np.intp] = self(images).argmax(axis=1)
        return result

    @property
    def about(self) -> dict[str, Any]:
        """All that is known of it: name, input, classes, parameters, multiply-accumulates, size in bytes, bits, ..."""
        about: dict[str, Any] = parsed(self._inner.describe())
        return about

    @property
    def name(self) -> str:
        """Name of the network."""
        return str(self.about["name"])

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the logits."""
        return list(self.about["class_names"])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images that it takes."""
        height, width, channels = self.about["input"]
        return height, width, channels

    @property
    def bits(self) -> int:
        """Bits per weight; 32 of a float model."""
        return self._inner.bits()

    @property
    def is_quantized(self) -> bool:
        """Whether it is one of packed integers."""
        return self.bits < 32

    @property
    def size_bytes(self) -> int:
        """Bytes of its file."""
        return int(self.about["size_bytes"])

    def save(self, path: str | os.PathLike[str]) -> int:
        """Write a file (safetensors, docs/format.md), whole or not at all; returns its size in bytes.

        Raises:
            FileError: it cannot be written.
        """
        return self._inner.save(path_of("path", path))

    def export_onnx(
        self, path: str | os.PathLike[str], *, input: str = "normalized", reduce_range: bool = False
    ) -> Exported:
        """Write an ONNX file (docs/onnx.md), as ``lowbit export`` does: f32, or QuantizeLinear and DequantizeLinear around
        integers.

        Args:
            path: the file; its name ends with .onnx.
            input: what the exported model reads: ``"normalized"`` f32 ``[n, channels, height, width]``, as in training, or
                ``"pixels"``, the u8 themselves.
            reduce_range: weights of 7 bits in layers whose sums CPUs without VNNI may cut to 16 bits in ONNX Runtime.

        Raises:
            ModelError: a layer has no form in ONNX, as in models of ``method="dynamic"``.
            SettingError: another name than .onnx, or no such input.
            FileError: it cannot be written, or is the file that the model was read from.
        """
        if input not in ("normalized", "pixels"):
            raise SettingError(f"input={input}: use normalized or pixels")
        size, opset, notes = self._inner.export(path_of("path", path), input == "pixels", reduce_range)
        return Exported(size_bytes=size, opset=opset, notes=notes)

    def state_dict(self) -> dict[str, NDArray[np.float32]]:
        """Copies of its tensors by name, float32; weights are ``[out, kernel_h, kernel_w, in]``.

        Raises:
            ModelError: it is quantized.
        """
        return self._inner.tensors()

    def load_state_dict(self, tensors: Mapping[str, Any]) -> None:
        """Take tensors of the names, shapes and type that `state_dict` gives; what it was trained on is then not known.

        Raises:
            ModelError: a tensor is missing, unknown, of another shape or not finite.
            DataError: a tensor of another type than float32.
        """
        if not hasattr(tensors, "items"):
            raise ModelError(f"{type(tensors).__name__}: give tensors by name, as state_dict does")
        self._inner.set_tensors([(text("name", name), _arrays.floats(given, name)) for name, given in tensors.items()])

    def __repr__(self) -> str:
        about = self.about
        height, width, channels = about["input"]
        kind = "float32" if about["bits"] == 32 else f"{about['bits']}-bit weights"
        return (
            f"<lowbit.Model {about['name']}: {kind}, {height}×{width}×{channels} to {len(about['class_names'])} classes, "
            f"{about['parameters']:,} parameters, {about['size_bytes']:,} bytes>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _decoded, self._inner.encoded()

    def __copy__(self) -> Model:
        return Model._of(self._inner.copied())

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        return self.__copy__()


def _decoded(name: str, data: NDArray[np.uint8] | bytes, fresh: int | None, unnamed: bool) -> Model:
    import numpy as np

    # Bytes in pickles of earlier versions.
    return Model._of(_Inner.decoded(name, np.frombuffer(data, dtype=np.uint8), fresh, unnamed))


def load(
    path: str | os.PathLike[str],
    *,
    preprocess: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    image_size: int = 0,
) -> Model:
    """Load a model file: lowbit's own, f32 or quantized, or an ONNX file.

    Args:
        path: the file.
        preprocess: how pixels become the input of an ONNX model, where its metadata do not say it and it does not take pixels:
            ``"imagenet"``, ``"half"`` (-1..1), ``"unit"`` (0..1), ``"none"`` (0..255), with ``:bgr`` behind it for models that
            take BGR, or a .toml file with mean and std.
        labels: a file with the names of an ONNX model's classes, one a line.
        image_size: height and width where an ONNX file leaves them open.

    Raises:
        ModelError: no model file, a damaged one, one of a newer format, or an operator that lowbit does not run.
        FileError: it cannot be read.
        SettingError: nothing says how pixels become the input of an ONNX model.
    """
    settings = pairs(preprocess=preprocess, labels=labels, image_size=image_size)
    return Model._of(_Inner.open(path_of("path", path), settings))


def zoo(
    name: str, classes: int | Sequence[str] = 10, *, input: tuple[int, int, int] = (64, 64, 3), seed: int = 1
) -> Model:
    """A model of the zoo with fresh weights.

    Args:
        name: one of `zoo_names`.
        classes: how many classes, or their names; without names they get those of the data that it is trained on.
        input: height, width and channels of the images.
        seed: seed of the weights.

    Raises:
        ModelError: no such model, or images too small for it.
        SettingError: a shape, a number of classes or a seed that is none.
    """
    names, unnamed = _classes(classes)
    return Model._of(_Inner.zoo(text("name", name), _shape(input), names, seed_of(seed), unnamed))


#: Names are made of each.
MOST_CLASSES = 100_000


def inner(model: Any) -> _Inner:
    """The inner part of a model."""
    if not isinstance(model, Model):
        raise ModelError(f"model: {type(model).__name__} is no lowbit.Model: use lowbit.load(file) or lowbit.zoo(name)")
    return model._inner


def _shape(input: Any) -> tuple[int, int, int]:
    """Height, width and channels."""
    try:
        height, width, channels = input
    except (TypeError, ValueError):
        raise SettingError(f"input={input!r}: give (height, width, channels)") from None
    return whole("input", height, 1, 4096), whole("input", width, 1, 4096), whole("input", channels, 1, 4096)


def _classes(classes: int | Sequence[str]) -> tuple[list[str], bool]:
    """Names of classes, and whether they are but numbers."""
    if isinstance(classes, str):
        raise SettingError(f"classes={classes!r}: give a list of names, or how many there are")
    if hasattr(classes, "__iter__"):
        return [text("classes", each) for each in classes], False
    return [str(index) for index in range(whole("classes", classes, 1, MOST_CLASSES))], True


def new_head(
    model: Model, classes: int | None = None, *, class_names: Sequence[str] | None = None, seed: int = 1
) -> Model:
    """The same network for other classes, as ``--new-head`` makes it: a fresh last layer, all other weights as they are. The
    model itself is left alone.

    Args:
        model: f32 weights; its last operator must be a linear layer.
        classes: how many classes; they get the names of the data that the new model is trained on.
        class_names: their names, instead of, or beside, their number.
        seed: seed of the new layer's weights.

    Raises:
        ModelError: it is quantized, or does not end in a linear layer.
        SettingError: neither a number nor names of classes, or more or fewer names than the number says.
    """
    given = classes if class_names is None else class_names
    names, unnamed = _classes([] if given is None else given)
    if not names:
        raise SettingError("new_head: say how many classes=, or their class_names=")
    if classes is not None and classes != len(names):
        raise SettingError(f"new_head: classes={classes}, and {len(names)} class_names: leave one of them out")
    return Model._of(inner(model).new_head(names, seed_of(seed), unnamed))


def zoo_names() -> list[str]:
    """The names that `zoo` takes."""
    return _Inner.zoo_names()


def _listed(setting: str, entries: Any) -> str | None:
    """A list as the command line takes it; none for an empty one."""
    try:
        found = [str(each) for each in entries]
    except TypeError:
        raise SettingError(f"{setting}={entries!r}: give a list of names") from None
    for each in found:
        if "," in each or "\n" in each or each.startswith("@"):
            raise SettingError(f"{setting}={each!r}: a name with a comma, a line's end or an @ before it; use * in their place")
    return ",".join(found) or None


def _widths(layer_bits: Any) -> list[str]:
    """Layers and their bits, each as the command line takes it."""
    try:
        return [f"{name}={width}" for name, width in (layer_bits or {}).items()]
    except AttributeError:
        raise SettingError(f"layer_bits={layer_bits!r}: give names with their bits, as {{'conv1': 8}}") from None


def quantize(
    model: Model,
    data: Dataset | Any = None,
    *,
    bits: int = 8,
    act_bits: int | str = 8,
    edge_bits: int = 8,
    weight_grid: str = "auto",
    method: str = "static",
    observer: str = "minmax",
    passes: str = "none",
    layer_bits: Mapping[str, int] | None = None,
    exclude: Sequence[str] = (),
    calibration_images: int = 512,
    seed: int = 1,
) -> Model:
    """Quantize a trained model.

    Args:
        model: f32 weights.
        data: a `Dataset`, whose training images set the activation ranges; or uint8 images
            ``[n, height, width, channels]``, all of which do. Not needed with ``method="dynamic"``.
        bits: bits per weight: 16, 8, 4, 2 or 1.
        act_bits: bits per activation: 8, 4, 2, 1, or ``"float"`` for weights alone.
        edge_bits: bits per weight of the first and the last layer, at least ``bits``.
        weight_grid: which integers weights of 4 and 2 bits are: ``"mid-tread"`` (whole steps about zero), ``"mid-rise"`` (odd half steps, one value
            more) or ``"auto"``.
        method: ``"static"``: ranges set once; ``"dynamic"``: anew for every image.
        observer: how ranges are found: ``"minmax"``, ``"percentile"``, ``"percentile:99.9"`` or ``"mse"``.
        passes: what repairs the rounding, several with commas: ``"bias-correction"``; ``"mse-weights"`` (below 8 bits, with
            bias correction); ``"gptq"`` (each weight makes good what those before it have spoilt; seconds); ``"adaround"`` or
            ``"adaround:1000"`` (learned rounding, in so many steps), instead of ``"gptq"``; ``"reconstruct"`` (after those: blocks learn to give what
            they give in f32; a minute).
        layer_bits: bits of layers that have their own, by name: ``{"conv1": 8, "block2.*": 4}``; ``*`` stands for any text.
        exclude: names of layers that stay f32; ``*`` stands for any text.
        calibration_images: how many training images set the ranges, and are what passes learn from.
        seed: seed of their choice.

    Raises:
        ModelError: it is quantized already, or cannot be.
        SettingError: a value that a setting cannot have.
        DataError: images of another type or shape than the model's.
    """
    settings = pairs(
        bits=bits,
        act_bits=act_bits,
        edge_bits=edge_bits,
        weight_grid=weight_grid,
        method=method,
        observer=observer,
        passes=passes,
        layer_bits=_listed("layer_bits", _widths(layer_bits)),
        exclude=_listed("exclude", [exclude] if isinstance(exclude, str) else exclude),
        calibration_images=calibration_images,
        seed=seed,
    )
    if data is None or isinstance(data, Dataset):
        images = None if data is None else data._inner
        return Model._of(inner(model).quantized(images, None, settings))
    return Model._of(inner(model).quantized(None, _arrays.images(data), settings))
