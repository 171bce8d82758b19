"""What can go wrong. Every exception of lowbit is an `Error` with one line: what, where, what to do."""

import re

# What a line of the libraries calls by its flag, where the name or the value is another one here.
_OTHERS = {
    "time": "seconds",
    "all": "all=True",
    "exif": "exif=True",
    "resume": "resume=True",
    "reduce-range": "reduce_range=True",
    "no-ste": "ste=False",
    "new-head": "lowbit.new_head",
}
_KEYWORDS = """act-bits act-quantizer augment batch batch-size bits bn-reestimation calibration-images clip-norm cutmix edge-bits ema epochs exclude
freeze-bn-epochs image-size label-smoothing labels layer-bits limit lr max-drop method mixup observer optimizer passes preprocess
quantizer resize schedule seed split split-seed start-from target teacher teacher-weight temperature train warmup-epochs
weight-decay weight-grid""".split()
# A flag, and the word behind it where that is a value: it has digits or a colon, or stands for one in capitals.
_FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*)(?: (?=[\w.]*\d|\w+:\w|[A-Z]{1,4}\b|static\b|mse\b|minmax\b|mid-))?")


def in_python(line: str) -> str:
    """The line with keywords instead of flags: ``image_size=64`` for ``--image-size 64``. Commands stay as they are."""

    def keyword(found: re.Match[str]) -> str:
        flag, behind = found[1], found[0][len(found[1]) + 2 :]
        clause = re.split(r"[(;,]|: ", line[: found.start()])[-1]
        if "lowbit " in clause or (flag not in _KEYWORDS and flag not in _OTHERS):
            return found[0]
        name = _OTHERS.get(flag, flag.replace("-", "_"))
        return name + behind if "=" in name or "." in name else name + "="

    return _FLAG.sub(keyword, line)


class Error(Exception):
    """Anything that lowbit refuses or cannot do."""


class DataError(Error, ValueError):
    """Images, labels, or a file that holds them, cannot be used."""


class SeenError(DataError):
    """A model would be measured on images that it has learned from."""


class ModelError(Error, ValueError):
    """A model, its weights, or the file that holds them, cannot be used."""


class SettingError(Error, ValueError):
    """A setting has a value that it cannot have."""


class TrainingError(Error, RuntimeError):
    """A training cannot go on, or cannot be resumed."""


class FileError(Error, OSError):
    """The file system refuses a file."""


class WireError(Error, ValueError):
    """A message of a federation cannot be read."""


class InternalError(Error, RuntimeError):
    """A fault of lowbit's own: please report it."""


for _class in (Error, DataError, SeenError, ModelError, SettingError, TrainingError, FileError, WireError, InternalError):
    _class.__module__ = "lowbit"
