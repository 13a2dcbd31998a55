"""From the first value that differs to the place where a reader should look."""

from __future__ import annotations

from collections.abc import Sequence

from torchflow.testing.report import Difference

_BY_ROOT = {
    "batches": "The batch differs: the data keeps state, or draws from a generator of its own. Draw in map_random, from the generator that it hands over.",
    "loss": "Batch and weights were equal: the step keeps state outside of the run (a closure, a global, an attribute that is no buffer), or draws from a generator of its own.",
    "model": "The loss was equal: what makes the update keeps state outside of the run: an optimizer, update= or a callback; or a kernel is not deterministic.",
    "callbacks": "A callback's state is not what it was: load_state() must take over everything that state() returns, and the hooks may depend on nothing else.",
    "attributes": "A callback keeps this attribute outside of its state: return it from state() and take it over in load_state(). One that may be lost is left out with ignore=.",
    "progress": "The run has another length: something else decides when it ends.",
}
_SAME_AS = {"metrics": "loss", "optimizers": "model", "schedulers": "model"}


_FIRST_WEIGHTS = "The first weights differ: the job function must make the same ones each time. Give the model as a recipe, or seed before it is made."


def advice_on_resume(different: Sequence[Difference]) -> str:
    """Return where to look for the cause of a first difference after a resume; empty without one."""
    if not different:
        return ""
    first = different[0]
    if first.update == 0:
        return _FIRST_WEIGHTS
    if first.process == 1 and first.update is not None:
        return (
            "Nothing had been killed yet: the job is not equal to itself. It depends on a clock, on the order of a set, on a generator "
            "that is not keyed, or on kernels that are not deterministic."
        )
    if first.path.endswith("/indices"):
        return "The order of the samples differs, which torchflow itself decides: please report this."
    root = first.path.removeprefix("end/").partition("/")[0]
    advice = _BY_ROOT.get(_SAME_AS.get(root, root), "The run depends on something that is in no checkpoint.")
    suspects = [difference.path.removeprefix("unsaved/") for difference in different if difference.path.startswith("unsaved/")]
    if root == "loss" and suspects:
        advice += f" The model keeps this where no checkpoint holds it: {', '.join(suspects)}. A persistent buffer would be saved."
    return advice


def advice_on_observers(different: Sequence[Difference], left_out: Sequence[str]) -> str:
    """Return how to find the observer that disturbs; empty where none does."""
    if not different:
        return ""
    if different[0].update == 0:
        return _FIRST_WEIGHTS
    return (
        f"One of these changes the run: {', '.join(left_out)}. observers=['name'] tries one alone. A callback that means to says "
        "changes_run = True; one that does not may read the model, and leave it and its training flags as they are."
    )
