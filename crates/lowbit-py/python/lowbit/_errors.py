"""What can go wrong. Every exception of lowbit is an `Error` with one line: what, where, what to do."""


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
