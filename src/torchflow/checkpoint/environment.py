"""The environment fingerprint: all that decides whether the same run gives the same bits."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from torchflow.types import State

_WORDS = {
    "torch": "torch version",
    "device": "device type",
    "cpu_capability": "CPU capability",
    "threads": "number of intra-op threads",
    "deterministic": "deterministic flag",
    "dtype": "dtype",
    "group": "number of updates in one call of compiled code",
    "matmul_precision": "precision of float32 products",
    "microbatch": "microbatch",
}


def fingerprint(
    device_type: str,
    dtype: str,
    deterministic: bool,
    group: int | None = None,
    matmul_precision: str | None = None,
    *,
    microbatch: int | str | None = None,
) -> dict[str, State]:
    """Return what the bits of a result depend on, beside seed, data and first weights.

    Args:
        device_type: Where the model is, for example ``"cpu"`` or ``"cuda"``.
        dtype: What it computes in, for example ``"float32"``.
        deterministic: Whether deterministic kernels were asked for.
        group: Updates of one call of compiled code; None where updates are not compiled.
        matmul_precision: The precision of float32 products that was chosen; None where it is that of the process.
        microbatch: The most samples of a batch that go through the step at once; "auto" where the memory decides, None for whole batches.
    """
    return {
        "torch": str(torch.__version__),  # a subclass of str, which a state cannot hold
        "device": device_type,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "deterministic": deterministic,
        "dtype": dtype,
        "matmul_precision": matmul_precision or torch.get_float32_matmul_precision(),
        **({} if group is None else {"group": group}),
        **({} if microbatch is None else {"microbatch": microbatch}),
    }


def environment_differences(stored: Mapping[str, State], here: Mapping[str, State]) -> list[str]:
    """Return one sentence, without its full stop, for each difference between a stored fingerprint and the present one."""
    sentences = []
    for name in [*stored, *(name for name in here if name not in stored)]:
        before, now = stored.get(name), here.get(name)
        if type(before) is not type(now) or before != now:
            word = _WORDS.get(name, name)
            sentences.append(f"the {word} was {_said(before)} and is {_said(now)} now")
    return sentences


def _said(value: State) -> str:
    return "not recorded" if value is None else str(value)
