"""The tree of exceptions; everything that torchflow raises on purpose is one of these.

::

    TorchflowError
    ├── ArgumentTypeError       (TypeError)    an argument of the wrong type
    ├── ArgumentValueError      (ValueError)   an argument of the right type with an impossible value
    ├── DataError               (ValueError)   data that is not what it was taken for
    │   ├── RaggedBatchError                   samples that do not stack to one batch
    │   ├── TableError                         a table that cannot become numbers
    │   ├── FileError                          a file that cannot be read as what it was taken for
    │   ├── CacheError                         a cache on disk cannot be written, read or trusted
    │   └── LeakError                          data that should be kept apart is not
    ├── StepError               (RuntimeError) a step function returned what cannot be trained on
    ├── NonFiniteError          (ArithmeticError) a loss or a gradient is NaN or infinite
    ├── CallbackError           (RuntimeError) a callback raised; the cause is chained
    ├── DeviceError             (RuntimeError) a device that is not there
    │   └── OutOfMemoryError                   the device's memory did not suffice
    ├── CheckpointError         (RuntimeError) saving or loading failed
    │   ├── StateError                         a value that a state tree cannot hold
    │   ├── CorruptCheckpointError             files that are not what was written
    │   └── MismatchError                      a sound file that does not fit the live objects
    └── MissingExtraError       (ImportError)  an optional dependency is not installed

Every message names the place, what was expected, what was found and what to do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence


class TorchflowError(Exception):
    """The base of every exception that torchflow raises on purpose."""


class ArgumentTypeError(TorchflowError, TypeError):
    """An argument has the wrong type."""


class ArgumentValueError(TorchflowError, ValueError):
    """An argument has the right type and an impossible value."""


class DataError(TorchflowError, ValueError):
    """Data is not what it was taken for."""


class RaggedBatchError(DataError):
    """The samples of one batch do not stack."""


class TableError(DataError):
    """A table cannot become numbers."""


class FileError(DataError):
    """A file cannot be read as what it was taken for.

    Attributes:
        path: The file.
    """

    def __init__(self, message: str, path: str | os.PathLike[str] = "") -> None:
        super().__init__(message)
        self.path = os.fspath(path)

    def __reduce__(self) -> tuple[type[FileError], tuple[str, str]]:
        return type(self), (str(self), self.path)


class CacheError(DataError):
    """A cache on disk cannot be written, or is not what was written, or cannot tell when it is out of date."""


class LeakError(DataError):
    """What is held out to judge a model is not kept apart from what it learns from."""


class StepError(TorchflowError, RuntimeError):
    """A step function returned something that cannot be trained on."""


class NonFiniteError(TorchflowError, ArithmeticError):
    """A loss or a gradient is NaN or infinite."""


class CallbackError(TorchflowError, RuntimeError):
    """A callback raised an exception, which is chained as ``__cause__``."""


class DeviceError(TorchflowError, RuntimeError):
    """A device was asked for that this machine does not have."""


class OutOfMemoryError(DeviceError):
    """The memory of the device did not suffice."""


class CheckpointError(TorchflowError, RuntimeError):
    """Saving or loading failed."""


class StateError(CheckpointError):
    """A state tree holds a value that it cannot hold."""


class CorruptCheckpointError(CheckpointError):
    """Files are not what was written."""


class MismatchError(CheckpointError):
    """A sound file does not fit the live objects.

    Attributes:
        differences: One line for each difference, all of them.
    """

    def __init__(self, message: str, differences: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.differences: tuple[str, ...] = tuple(differences)


class MissingExtraError(TorchflowError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""
