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
NEEDED = {"torchmetrics": "torchmetrics", "hf_datasets": "pyarrow", "graphs": "networkx", "many_graphs": "torch_geometric"}


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
    trainer: Trainer[Any, Any] = Trainer(names["step"], optimizer=names["adam"], progress=False)
    first = made(names["classifier"])
    second = copy.deepcopy(first)
    trainer.fit(first, names["train"], epochs=2)
    run = trainer.start(copy.deepcopy(second), names["train"])
    batches = [batch for epoch in range(2) for batch in run.batches.epoch(epoch)]
    assert isinstance(batches[0], dict)
    updates = iter(range(len(batches)))

    def step(model: nn.Module, batch: Any) -> torch.Tensor:
        run.randomness.seed(next(updates), 0, run.accelerator)  # the dropout of this update
        loss: torch.Tensor = model(**batch).loss
        return loss

    with torch.random.fork_rng():
        by_hand(second, names["adam"](second), batches, step)
    assert equal(first, second)


def test_a_loss_a_token_does_not_see_how_the_texts_are_cut() -> None:
    """Seen to fail when the step says nothing of its count."""
    names = page("transformers")
    trainer, kept, lengths = names["trainer"], names["kept"], (names["kept"]["labels"][:, 1:] != -100).sum(1)
    model = made(names["writer"])
    losses = [trainer.evaluate(model, {name: column[[row]] for name, column in kept.items()})["loss"] for row in range(20)]
    some = {name: column[:20] for name, column in kept.items()}
    mean = sum(loss * int(count) for loss, count in zip(losses, lengths, strict=False)) / int(lengths[:20].sum())
    assert [trainer.evaluate(model, some, batch_size=size)["loss"] for size in (3, 20)] == pytest.approx([mean] * 2, rel=1e-5)


def test_the_accuracy_of_a_model_with_its_own_loss_is_that_of_its_predictions() -> None:
    """Seen to fail when the step compares predictions with themselves."""
    names = page("transformers")
    valid = names["valid"]
    trainer: Trainer[Any, Any] = Trainer(names["step"], optimizer=names["adam"], progress=False)
    result = trainer.fit(names["classifier"], names["train"], epochs=1, validation=valid)
    scores = trainer.predict(result.model, valid, forward=lambda model, batch: model(**batch).logits)
    right = (scores.argmax(1) == valid["labels"]).float().mean()
    assert result.history.last["valid/accuracy"] == pytest.approx(float(right))


def test_every_row_of_a_foreign_dataset_is_read_once_an_epoch() -> None:
    names = page("hf_datasets")
    read: list[int] = []

    class Counted:
        """The rows, which write down who was read."""

        rows = names["rows"].with_format("torch")

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> Any:
            read.append(index)
            return self.rows[index]

    rows = Counted()
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


def test_the_metrics_of_a_collection_are_measured_one_by_one() -> None:
    torchmetrics = pytest.importorskip("torchmetrics", reason="it brings the metrics")
    names = page("torchmetrics")
    both = torchmetrics.MetricCollection(
        {kind: torchmetrics.classification.MulticlassF1Score(3, average=kind) for kind in ("macro", "micro")}
    )
    trainer: Trainer[Any, Any] = Trainer(
        supervised(nn.CrossEntropyLoss(), metrics=dict(both.items())), optimizer=names["adam"], progress=False
    )
    found = trainer.evaluate(names["result"].model, names["valid"], batch_size=7)
    x, y = names["valid"]
    by_hand = both(names["result"].model(x), y)
    assert {name: found[name] for name in by_hand} == pytest.approx({name: float(value) for name, value in by_hand.items()})


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
    model = copy.deepcopy(names["model"])
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = copy.deepcopy(model.state_dict())
    names["freeze"](model)
    names["head"].fit(model, names["train"], epochs=1, validation=names["valid"])
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name, value in model.named_parameters() if value.requires_grad}
    assert len(changed) == 2
    assert model.training
    assert norms
    assert not any(norm.training for norm in norms)


def test_a_body_that_thaws_learns_at_its_own_rate() -> None:
    names = page("timm")
    model = names["model"]
    sizes = [sum(p.numel() for p in part.parameters()) for part in (model.get_classifier(), model)]
    optimizer = names["groups"](model)
    assert [(group["lr"], sum(p.numel() for p in group["params"])) for group in optimizer.param_groups] == [
        (0.01, sizes[0]),
        (0.001, sizes[1] - sizes[0]),
    ]


def test_statistics_of_a_body_move_while_all_of_it_learns_and_at_no_other_time() -> None:
    """Seen to fail when the page does not put the normalisation into evaluation mode, and when a validation moves statistics."""
    names = page("timm")
    updates = 5 * -(-len(names["train"]) // 32)
    norms = [module for module in names["model"].modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(norm.num_batches_tracked == updates for norm in norms)
    assert names["result"].progress.updates == updates


def gan(names: dict[str, Any], folder: Path, own: bool) -> Trainer[Any, Any]:
    optimizers = {part: names["adam"](part) for part in ("critic", "generator")}
    saver = Checkpoints(folder, every=Every(updates=1))
    step, update = (names["critic"], names["update"]) if own else (names["steps"], None)
    return Trainer(step, optimizer=optimizers, update=update, accumulate=2 if own else 1, checkpoints=saver, progress=False)


@pytest.mark.parametrize("own", [False, True])
@given(left_after=st.integers(1, 5))
@settings(max_examples=3, deadline=None)
def test_a_gan_that_is_left_anywhere_goes_on_to_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, own: bool, left_after: int
) -> None:
    names, folder = page("gan"), tmp_path_factory.mktemp("gan")
    points = names["points"][:120]
    whole = gan(names, folder / "whole", own).fit(names["Pair"], points, epochs=2, batch_size=20).model
    gan(names, folder / "parts", own).fit(names["Pair"], points, max_updates=left_after, batch_size=20)
    parts = gan(names, folder / "parts", own).fit(names["Pair"], points, epochs=2, batch_size=20, resume=True).model
    assert equal(whole, parts)


def test_a_gan_is_trained_as_by_hand() -> None:
    names = page("gan")
    trainer, first, points = names["trainer"], made(names["Pair"]), names["points"][:200]
    second = copy.deepcopy(first)
    run = trainer.start(first, points, batch_size=50)
    critic, generator = (names["adam"](part)(second) for part in ("critic", "generator"))
    for batch in run.batches.epoch(0):
        noises = []
        with torch.random.fork_rng():
            for step in range(2):
                run.randomness.seed(run.progress.updates, step, run.accelerator)
                noises.append(torch.randn(50, 4))
        torchflow.update(run, [batch])
        fake = second.generator(noises[0]).detach()
        judged = nn.functional.softplus(-second.critic(batch)).mean() + nn.functional.softplus(second.critic(fake)).mean()
        critic.zero_grad()
        judged.backward()
        critic.step()
        generator.zero_grad()
        nn.functional.softplus(-second.critic(second.generator(noises[1]))).mean().backward()
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
