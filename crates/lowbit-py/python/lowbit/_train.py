"""Training."""

from __future__ import annotations

import math
import os

from . import _lowbit
from ._data import Dataset
from ._data import inner as data_of
from ._errors import ModelError
from ._model import Model
from ._model import inner as model_of
from ._record import Record, parsed
from ._settings import pairs, text, whole
from ._settings import path as path_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    import pandas


class EpochRecord(Record):
    """What one epoch came to."""

    epoch: int
    """Number of the epoch, from 1."""
    train_loss: float
    """Mean loss over the epoch, while the weights changed."""
    train_accuracy: float
    """Accuracy (0-1) over the epoch, while the weights changed."""
    test_loss: float
    """Test loss of the model as deployed, after the epoch; not a number where validation images watch over the training."""
    test_accuracy: float
    """Test accuracy (0-1) of the model as deployed, after the epoch; not a number where validation images watch over it."""
    validation_loss: float
    """The same on the validation images; not a number where the data have none."""
    validation_accuracy: float
    """The same on the validation images (0-1); not a number where the data have none."""
    lr: float
    """Learning rate of the last step."""
    train_seconds: float
    """Seconds of training, evaluation not counted."""
    train_img_per_s: float
    """Training images per second."""
    logits_digest: int | None
    """Digest of the deployed model's logits over the images that watch over the training."""

    def __repr__(self) -> str:
        return f"<lowbit.EpochRecord {self}>"

    def __str__(self) -> str:
        watched = ("test", self.test_accuracy)
        if not math.isnan(self.validation_accuracy):
            watched = ("validation", self.validation_accuracy)
        return (
            f"epoch {self.epoch}: loss {self.train_loss:.4f}, {watched[0]} accuracy {100 * watched[1]:.2f} %, "
            f"{self.train_img_per_s:.0f} img/s"
        )


class Run(Record):
    """What a training came to."""

    model: Model
    """The model that ships: the trained f32 one, or the packed integers of a training with fewer than 32 bits."""
    epochs: list[EpochRecord]
    """One record per epoch."""
    chosen_epoch: int
    """The epoch whose weights these are, from 1: the best on the validation images, or the last where there are none."""
    test_accuracy: float
    """Test accuracy (0-1) of the model."""

    def __repr__(self) -> str:
        return f"<lowbit.Run of {len(self.epochs)} epochs: {100 * self.test_accuracy:.2f} % test accuracy, {self.model!r}>"

    def to_frame(self) -> pandas.DataFrame:
        """The epochs as a pandas frame (pandas must be installed)."""
        import pandas

        return pandas.DataFrame([epoch._asdict() for epoch in self.epochs])


def train(
    model: Model,
    data: Dataset,
    *,
    epochs: int = 10,
    bits: int = 32,
    batch_size: int = 64,
    lr: float = 1e-3,
    optimizer: str = "adam",
    schedule: str = "cosine",
    augment: str = "none",
    weight_decay: float = 0.0,
    label_smoothing: float = 0.0,
    clip_norm: float = 0.0,
    warmup_epochs: int = 0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    ema: float = 0.0,
    bn_reestimation: int = 0,
    start_from: Model | str | os.PathLike[str] | None = None,
    teacher: Model | str | os.PathLike[str] | None = None,
    teacher_weight: float = 0.5,
    temperature: float = 4.0,
    seed: int = 1,
    act_bits: int | str = 8,
    edge_bits: int = 8,
    weight_grid: str = "auto",
    quantizer: str = "auto",
    act_quantizer: str = "auto",
    ste: bool = True,
    freeze_bn_epochs: int = 0,
    on_epoch: Callable[[EpochRecord], Any] | None = None,
    on_batch: Callable[[int, int, float, float], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> Run:
    """Train a model, in place: it has the last epoch's weights afterwards. A fresh model of the zoo begins as
    ``lowbit train`` does, with the same bits; any other goes on from its weights.

    Ctrl-C, or an exception in a callback, stops it within a batch; the model then has the weights of the last whole epoch,
    and ``resume=True`` with the same ``checkpoint`` goes on and ends with the bits of a training that was never stopped: with
    this model, or, in another process, with one as it was before the training.

    Args:
        model: f32 weights.
        data: training images, and test images to measure every epoch on.
        epochs: passes over the training images.
        bits: bits per weight; with 16, 8, 4, 2 or 1 the training is quantization-aware, and the run's model the packed one.
        batch_size: images per step.
        lr: base learning rate.
        optimizer: ``"adam"``, ``"sgd"`` or ``"nesterov"``.
        schedule: ``"cosine"``, ``"constant"`` or ``"onecycle"``.
        augment: ``"none"``, ``"flip"``, ``"dihedral"``, ``"shift:4"``, ``"rotate:15"``, ``"color:20"`` (per cent),
            ``"cutout:8"``, or several as ``"flip,shift:4"``.
        weight_decay: L2 of convolutions' and linear layers' weights.
        label_smoothing: share of each label that is spread over all classes.
        clip_norm: largest norm of all gradients together, 0 for any.
        warmup_epochs: first epochs, in which the learning rate climbs to its base.
        mixup: mix pairs of images with shares from Beta(A, A), 0 for not.
        cutmix: paste rectangles of images into others, with areas from Beta(A, A), 0 for not.
        ema: evaluate and ship a moving average of the weights that keeps this share in each step, such as 0.999; 0 for the
            last weights.
        bn_reestimation: measure batch-norm's statistics anew over so many batches before a model is evaluated and shipped, 0 for
            the running averages.
        start_from: begin with the weights of this f32 model of the same network and classes (a model, or a file of lowbit's),
            instead of those that ``model`` has.
        teacher: learn the answers of this f32 model too (distillation): a model, or a file of lowbit's, of the same images and
            classes.
        teacher_weight: share of the loss that is the teacher's.
        temperature: what softens both answers.
        seed: seed of the order of images and of augmentation.
        act_bits: bits per activation (8, 4, 2, 1 or ``"float"``), of a quantization-aware training.
        edge_bits: bits per weight of the first and the last layer, of a quantization-aware training.
        weight_grid: which integers weights of 4 and 2 bits are, of a quantization-aware training: ``"mid-tread"`` (whole steps about zero), ``"mid-rise"`` (odd half steps, one value
            more) or ``"auto"``,
            which is mid-rise at 2 bits.
        quantizer: steps of the weights: ``"auto"``, ``"lsq"``, ``"absmax"`` or ``"dorefa"``.
        act_quantizer: steps of the activations: ``"auto"``, ``"lsq"``, ``"pact"`` or ``"ema"``.
        ste: pass gradients straight through rounding.
        freeze_bn_epochs: last epochs that leave batch-norm statistics as they are.
        on_epoch: called with each `EpochRecord`, in the calling thread; ``print`` will do.
        on_batch: called with images done, images of the epoch, mean loss and accuracy (0-1) so far.
        checkpoint: file to write the state into after every epoch.
        resume: go on from ``checkpoint`` if it is there.

    Raises:
        TrainingError: the loss diverged, or the checkpoint is another run's.
        DataError: the data do not fit the model.
        ModelError: ``start_from`` or ``teacher`` is quantized.
        SettingError: a value that a setting cannot have.
    """
    settings = pairs(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        optimizer=optimizer,
        schedule=schedule,
        augment=augment,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        clip_norm=clip_norm,
        warmup_epochs=warmup_epochs,
        mixup=mixup,
        cutmix=cutmix,
        ema=ema,
        bn_reestimation=bn_reestimation,
        teacher_weight=teacher_weight,
        temperature=temperature,
        seed=seed,
        act_bits=act_bits,
        edge_bits=edge_bits,
        weight_grid=weight_grid,
        quantizer=quantizer,
        act_quantizer=act_quantizer,
        ste=ste,
        freeze_bn_epochs=freeze_bn_epochs,
    )
    if bits != 32:
        settings += pairs(bits=bits)
    call = None
    if on_epoch is not None:
        hear = on_epoch

        def call(text: str) -> None:
            hear(_epoch(parsed(text)))

    import tempfile

    with tempfile.TemporaryDirectory(prefix="lowbit-") as folder:
        path = os.path.join(folder, "checkpoint.safetensors") if checkpoint is None else path_of("checkpoint", checkpoint)
        for name, given in (("start_from", start_from), ("teacher", teacher)):
            settings += pairs(**{name: _file(name, given, folder)})
        records, packed = _lowbit.train(
            model_of(model), data_of(data), settings, whole("bits", bits, 0, 255), path, resume, call, on_batch
        )
    told = parsed(records)
    return Run(
        model=model if packed is None else Model._of(packed),
        epochs=[_epoch(record) for record in told["epochs"]],
        chosen_epoch=told["chosen_epoch"],
        test_accuracy=told["test_accuracy"],
    )


def _epoch(record: dict[str, Any]) -> EpochRecord:
    """A record, of which what was not measured is not a number."""
    unmeasured = ("test_loss", "test_accuracy", "validation_loss", "validation_accuracy")
    return EpochRecord(**{**dict.fromkeys(unmeasured, math.nan), **record})


def _file(name: str, given: Model | str | os.PathLike[str] | None, folder: str) -> str | os.PathLike[str] | None:
    """A model as the file that the settings name."""
    if not isinstance(given, Model):
        return given
    if given.is_quantized:
        raise ModelError(f"{name}: {given!r} is quantized; give an FP32 model")
    path = os.path.join(folder, f"{name}.safetensors")
    given.save(path)
    return path


def recipe(name: str) -> dict[str, Any]:
    """The settings of a training that is worth repeating, as ``--recipe`` takes them: ``lb.train(model, data, **lb.recipe(name))``.

    Network and data, which a recipe names as well, are left to you (``lowbit recipes`` lists them).

    Raises:
        SettingError: there is none of that name.
    """
    found: dict[str, Any] = parsed(_lowbit.recipe(text("name", name)))
    return found
