"""What the how-to pages show runs, says what they say, and keeps the promises that the library makes for everything else."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import torchflow
from tests.fitting.pages import PAGES, blocks, ran
from torchflow import Checkpoints, Every, Stepped, Trainer, data, supervised

LINES_OF_A_PAGE = 60
NEEDED = {"torchmetrics": "torchmetrics", "hf_datasets": "pyarrow", "graphs": "networkx"}


def page(name: str) -> dict[str, Any]:
    """The names that a page's code leaves behind."""
    if package := NEEDED.get(name):
        pytest.importorskip(package, reason=f"the page on {name} shows {package}")
    return ran(name)[0]


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == also and torch.equal(value, second) for (name, value), (also, second) in pairs)


def made(model: Any, *arguments: Any) -> Any:
    """A model with the first weights that a recipe gets under seed 0."""
    torch.manual_seed(0)
    return model(*arguments)


@pytest.mark.parametrize("name", PAGES)
def test_the_code_of_a_page_is_short(name: str) -> None:
    lines = [line for block in blocks(name, "testcode") for line in block.splitlines()]
    assert 0 < len(lines) <= LINES_OF_A_PAGE


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_its_code_prints(name: str) -> None:
    page(name)
    assert ran(name)[1] == "".join(blocks(name, "testoutput"))


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (Path(__file__).parent.parent.parent / "docs" / "index.rst").read_text(encoding="utf-8")
    assert [name for name in PAGES if f"   howto/{name}\n" not in index] == []


def by_hand(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[Any], step: Any) -> None:
    """Train as anybody would."""
    for batch in batches:
        found = step(model, batch)
        optimizer.zero_grad()
        (found if isinstance(found, torch.Tensor) else found.loss).backward()
        optimizer.step()


def test_a_model_with_its_own_loss_is_trained_as_by_hand() -> None:
    names = page("transformers")
    trainer, first = names["trainer"], made(names["Sorter"], 50, 2)
    second = copy.deepcopy(first)
    trainer.fit(first, names["train"], epochs=2)
    run = trainer.start(copy.deepcopy(second), names["train"])
    batches = [batch for epoch in range(2) for batch in run.batches.epoch(epoch)]
    assert isinstance(batches[0], dict)
    by_hand(second, torch.optim.AdamW(second.parameters(), lr=0.02), batches, lambda model, batch: model(**batch))
    assert equal(first, second)


def test_the_accuracy_of_a_model_with_its_own_loss_is_that_of_its_predictions() -> None:
    """Seen to fail when the step compares predictions with themselves."""
    names = page("transformers")
    right = (names["scores"].argmax(1) == names["valid"]["labels"]).float().mean()
    assert names["result"].history.last["valid/accuracy"] == pytest.approx(float(right))


def test_every_row_of_a_foreign_dataset_is_read_once_an_epoch() -> None:
    names = page("hf_datasets")
    read: list[int] = []
    base: Any = names["Rows"]

    class Counted(base):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:
            read.append(index)
            return super().__getitem__(index)

    rows = Counted(names["rows"].data, torch_format=True)
    trainer: Trainer[nn.Linear, Any] = Trainer(names["step"], optimizer=names["sgd"], progress=False)
    trainer.fit(nn.Linear(2, 1), rows, epochs=2, batch_size=16)
    once = list(range(len(rows)))
    epochs = read[-2 * len(rows) : -len(rows)], read[-len(rows) :]
    assert [sorted(epoch) for epoch in epochs] == [once, once]
    assert epochs[0] != epochs[1]


def test_the_three_ways_to_read_rows_give_the_same_samples() -> None:
    names = page("hf_datasets")
    for index in (0, 57, 199):
        row = names["rows"].with_format("torch")[index]
        x, y = names["pairs"][index]
        assert x.tolist() == [row["size"], row["weight"]]
        assert y.tolist() == [row["price"]]
        assert torch.allclose(names["table"][index][0], x)
        assert torch.allclose(names["table"][index][1], y)


@given(st.integers(1, 100))
@settings(max_examples=10, deadline=None)
def test_an_object_of_torchmetrics_does_not_see_how_the_data_is_cut(batch_size: int) -> None:
    names = page("torchmetrics")
    scores = names["trainer"].evaluate(names["result"].model, names["valid"], batch_size=batch_size)
    whole = names["trainer"].evaluate(names["result"].model, names["valid"], batch_size=100)
    assert scores == pytest.approx(whole, rel=1e-5)


def test_an_object_measures_what_the_step_hands_over() -> None:
    """Seen to fail when the step hands over the targets twice."""
    names = page("torchmetrics")
    x, y = names["valid"]
    with torch.no_grad():
        predicted = names["related"].model(x)[:, 0]
    expected = float(torch.corrcoef(torch.stack((predicted, y.float())))[0, 1])
    assert names["related"].history.last["valid/pearson"] == pytest.approx(expected, rel=1e-4)


def test_a_frozen_body_stays_as_it_is_while_its_head_learns() -> None:
    names = page("timm")
    model = made(names["Backbone"], 3)
    before = copy.deepcopy(model.state_dict())
    model.train().requires_grad_(requires_grad=False)
    model.norm.eval()
    model.get_classifier().requires_grad_(requires_grad=True)
    names["head"].fit(model, names["train"], epochs=2, validation=names["valid"])
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"fc.weight", "fc.bias"}
    assert model.training
    assert not model.norm.training


def test_a_body_that_thaws_learns_at_its_own_rate() -> None:
    names = page("timm")
    model = made(names["Backbone"], 3)
    optimizer = names["groups"](model)
    assert [(group["lr"], sum(p.numel() for p in group["params"])) for group in optimizer.param_groups] == [
        (0.01, 27),
        (0.001, 240),
    ]


def test_statistics_of_a_body_move_while_all_of_it_learns_and_at_no_other_time() -> None:
    """Seen to fail when the page does not put the normalisation into evaluation mode, and when a validation moves statistics."""
    names = page("timm")
    updates = 5 * -(-len(names["train"]) // 32)
    assert names["model"].norm.num_batches_tracked == names["result"].progress.updates == updates


def gan(names: dict[str, Any], folder: Path) -> Trainer[Any, Any]:
    optimizers = {part: names["adam"](part) for part in ("critic", "generator")}
    saver = Checkpoints(folder, every=Every(updates=1))
    return Trainer(names["step"], optimizer=optimizers, update=names["update"], checkpoints=saver, progress=False)


@given(st.integers(1, 11))
@settings(max_examples=3, deadline=None)
def test_a_gan_that_is_left_anywhere_goes_on_to_the_same_bits(tmp_path_factory: pytest.TempPathFactory, left_after: int) -> None:
    names, folder = page("gan"), tmp_path_factory.mktemp("gan")
    points = names["points"][:120]
    whole = gan(names, folder / "whole").fit(names["Pair"], points, epochs=2, batch_size=20).model
    gan(names, folder / "parts").fit(names["Pair"], points, max_updates=left_after, batch_size=20)
    parts = gan(names, folder / "parts").fit(names["Pair"], points, epochs=2, batch_size=20, resume=True).model
    assert equal(whole, parts)


def test_a_gan_is_trained_as_by_hand() -> None:
    names = page("gan")
    trainer, first, points = names["trainer"], made(names["Pair"]), names["points"][:200]
    second = copy.deepcopy(first)
    run = trainer.start(first, points, batch_size=50)
    critic, generator = (names["adam"](part)(second) for part in ("critic", "generator"))
    for batch in run.batches.epoch(0):
        with torch.random.fork_rng():
            run.randomness.seed(run.progress.updates, 0, run.accelerator)  # the noise of this update
            noise = torch.randn(50, 4)
        torchflow.update(run, [batch])
        fake = second.generator(noise)
        judged = nn.functional.softplus(-second.critic(batch)).mean() + nn.functional.softplus(second.critic(fake.detach())).mean()
        critic.zero_grad()
        judged.backward()
        critic.step()
        generator.zero_grad()
        nn.functional.softplus(-second.critic(fake)).mean().backward()
        generator.step()
    assert run.progress.updates == 4
    assert equal(first, second)


def test_l_bfgs_takes_the_steps_that_it_takes_by_hand() -> None:
    names = page("lbfgs")
    model = names["Decay"]()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(names["x"]), names["y"])
        loss.backward()
        return loss

    for _ in range(names["result"].progress.updates):
        optimizer.step(closure)
    assert equal(model, names["result"].model)


def test_l_bfgs_over_accumulated_batches_is_that_of_one_batch() -> None:
    names = page("lbfgs")

    def fitted(batch_size: int, accumulate: int) -> Any:
        trainer: Trainer[Any, Any] = Trainer(
            supervised(nn.MSELoss()),
            optimizer=lambda model: torch.optim.LBFGS(model.parameters(), lr=1.0, line_search_fn="strong_wolfe"),
            accumulate=accumulate,
            progress=False,
        )
        data = (names["x"], names["y"])
        return trainer.fit(names["Decay"], data, epochs=2, batch_size=batch_size, shuffle=False).model.numbers

    assert torch.allclose(fitted(200, 1), fitted(37, 6), rtol=1e-8)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6))
@settings(max_examples=15, deadline=None)
def test_texts_cut_into_any_batches_give_the_gradient_of_them_all(sizes: list[int]) -> None:
    names = page("language_models")
    samples = list(names["train"])[: sum(sizes)]
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    cut = [names["pad"](samples[end - size : end]) for end, size in zip(ends, sizes, strict=True)]
    trainer: Trainer[Any, Any] = Trainer(
        names["step"], optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=1.0), progress=False
    )
    models, losses = [], []
    for batches in (cut, [names["pad"](samples)]):
        run = trainer.start(
            made(names["Writer"], names["vocabulary"].size).double(), data.from_iterable(samples), collate=names["pad"]
        )
        stepped: Stepped = torchflow.update(run, batches)
        models.append(run.model)
        losses.append(float(stepped.loss))
        assert int(stepped.count) == sum(len(sample) - 1 for sample in samples)
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_no_node_is_learnt_from_and_validated() -> None:
    """Seen to fail when the nodes that are learnt from are validated."""
    names = page("graphs")
    learnt, validated = (set(names["data"][part][0].tolist()) for part in ("train", "valid"))
    assert learnt.isdisjoint(validated)
    assert learnt | validated == set(range(len(names["clubs"])))


def test_a_graph_is_trained_on_one_full_batch_as_by_hand() -> None:
    names = page("graphs")
    first = made(names["Network"], names["links"])
    second = copy.deepcopy(first)
    trainer: Trainer[Any, Any] = Trainer(
        names["step"], optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=5e-4), progress=False
    )
    known = names["data"]["train"]
    result = trainer.fit(first, known, epochs=20, batch_size=4, shuffle=False, validation=names["data"]["valid"])
    optimizer = torch.optim.Adam(second.parameters(), lr=0.02, weight_decay=5e-4)
    by_hand(second, optimizer, [known] * 20, names["step"])
    assert result.progress.updates == 20
    assert equal(first, second)
