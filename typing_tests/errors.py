"""Errors: each is a TorchflowError and one of Python's own, and some carry what was found."""

from __future__ import annotations

from typing import assert_type

from torchflow import data, errors


def right_errors(mismatch: errors.MismatchError, file: errors.FileError) -> None:
    wrong_types: list[TypeError] = [errors.ArgumentTypeError("what to do")]
    wrong_values: list[ValueError] = [errors.ArgumentValueError("what to do"), errors.DataError("what to do"), file]
    missing: list[ImportError] = [errors.MissingExtraError("what to install")]
    every: list[errors.TorchflowError] = [mismatch, file, errors.OutOfMemoryError()]
    assert_type(wrong_types[0], TypeError)
    assert_type(wrong_values[0], ValueError)
    assert_type(missing[0], ImportError)
    assert_type(every[0], errors.TorchflowError)


def right_data_errors(points: data.Dataset[int]) -> None:
    try:
        points.take_batch([0])
    except (errors.RaggedBatchError, errors.CacheError) as error:
        assert_type(error, errors.RaggedBatchError | errors.CacheError)


def wrong_errors() -> None:
    one: ValueError = errors.ArgumentTypeError("what to do")  # type: ignore[assignment]
    two: errors.CheckpointError = errors.DataError("what to do")  # type: ignore[assignment]
    errors.FileError()  # type: ignore[call-arg]  # what happened?
    errors.MismatchError("other", differences=3)  # type: ignore[arg-type]
    errors.ValidationError  # type: ignore[attr-defined]
