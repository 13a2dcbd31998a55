from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchflow import Outputs, Trainer, supervised
from torchflow.errors import ArgumentTypeError, ArgumentValueError, StepError
from torchflow.metrics import R2, absolute_error
from torchflow.step import checked_loss


class Same(nn.Module):
    """Predicts its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def wrong(value: object) -> Any:
    """A value that the type checker is not to see."""
    return value


def regression(samples: int = 6, outputs: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.rand(samples, outputs) * 0.8 + 0.1, torch.rand(samples, outputs) * 0.8 + 0.1


ELEMENTWISE: list[Callable[..., nn.Module]] = [
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_every_reduction_of_an_elementwise_loss_trains_the_same_mean(loss: Callable[..., nn.Module], reduction: str) -> None:
    x, y = regression()
    outputs = supervised(loss(reduction=reduction))(Same(), (x, y))
    torch.testing.assert_close(outputs.loss, loss()(x, y))
    assert outputs.count == 6
    assert outputs.loss.shape == ()


def classes(samples: int = 8, extra: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(samples, 4, *extra), torch.randint(4, (samples, *extra))


WEIGHT = torch.tensor([0.5, 2.0, 1.0, 0.25])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("extra", [(), (5,), (2, 3)])
@pytest.mark.parametrize("options", [{}, {"weight": WEIGHT}, {"ignore_index": 2}, {"weight": WEIGHT, "ignore_index": 1}])
def test_every_reduction_of_a_classification_loss_trains_torchs_mean(
    reduction: str, extra: tuple[int, ...], options: dict[str, Any]
) -> None:
    x, y = classes(extra=extra)
    outputs = supervised(nn.CrossEntropyLoss(reduction=reduction, **options))(Same(), (x, y))
    torch.testing.assert_close(outputs.loss, nn.CrossEntropyLoss(**options)(x, y))
    logs = x.log_softmax(1)
    negative = supervised(nn.NLLLoss(reduction=reduction, **options))(Same(), (logs, y))
    torch.testing.assert_close(negative.loss, nn.NLLLoss(**options)(logs, y))
    assert float(negative.count or 0) == float(outputs.count or 0)


@pytest.mark.parametrize("options", [{}, {"weight": WEIGHT}, {"ignore_index": 2}, {"weight": WEIGHT, "ignore_index": 1}])
def test_counts_weigh_batches_to_exactly_the_mean_of_the_whole(options: dict[str, Any]) -> None:
    x, y = classes(samples=20)
    loss = nn.CrossEntropyLoss(**options)
    step = supervised(loss)
    parts = [step(Same(), (x[cut], y[cut])) for cut in (slice(0, 3), slice(3, 4), slice(4, 20))]
    kept = [part for part in parts if float(part.count or 0)]
    total = sum(float(part.loss) * float(part.count or 0) for part in kept)
    assert total / sum(float(part.count or 0) for part in kept) == pytest.approx(float(loss(x, y)), rel=1e-6)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("extra", [(), (3,)])
def test_class_probabilities_count_samples(weight: Tensor | None, reduction: str, extra: tuple[int, ...]) -> None:
    x, _ = classes(extra=extra)
    y = torch.rand_like(x).softmax(1)
    outputs = supervised(nn.CrossEntropyLoss(weight=weight, reduction=reduction))(Same(), (x, y))
    torch.testing.assert_close(outputs.loss, nn.CrossEntropyLoss(weight=weight)(x, y))
    assert outputs.count == math.prod((8, *extra))


def test_one_sample_without_a_batch_dimension_counts_as_torch_counts_it() -> None:
    x, y = torch.randn(4), torch.rand(4).softmax(0)
    outputs = supervised(nn.CrossEntropyLoss())(Same(), (x, y))
    assert outputs.count == 1


def test_label_smoothing_keeps_torchs_mean() -> None:
    x, y = classes()
    loss = nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1, ignore_index=3)
    outputs = supervised(loss)(Same(), (x, y))
    torch.testing.assert_close(outputs.loss, loss(x, y))
    assert float(outputs.count or 0) == pytest.approx(float(WEIGHT[y[y != 3]].sum()))


def test_a_batch_whose_targets_are_all_ignored_counts_nothing() -> None:
    x, y = torch.randn(3, 4), torch.full((3,), 2)
    outputs = supervised(nn.CrossEntropyLoss(ignore_index=2))(Same(), (x, y))
    assert float(outputs.count if outputs.count is not None else -1) == 0.0
    assert math.isnan(outputs.loss.item())


def test_a_function_of_the_user_is_a_loss_and_one_value_a_sample_is_averaged() -> None:
    x, y = regression()
    outputs = supervised(lambda p, t: (p - t).abs().mean(1))(Same(), (x, y))
    torch.testing.assert_close(outputs.loss, (x - y).abs().mean())
    assert supervised(lambda p, t: (p - t).sum())(Same(), (x, y)).loss.item() == pytest.approx((x - y).sum().item())


def test_another_loss_with_a_sum_is_divided_by_the_samples() -> None:
    x, y = regression()
    outputs = supervised(nn.PoissonNLLLoss(reduction="sum"))(Same(), (x, y))
    torch.testing.assert_close(outputs.loss, nn.PoissonNLLLoss(reduction="sum")(x, y) / 6)


def test_shapes_that_torch_would_broadcast_are_refused() -> None:
    with pytest.raises(
        StepError,
        match=r"MSELoss compares element by element, .* shape \(6, 1\) but the targets \(6,\): torch would broadcast .* Reshape",
    ):
        supervised(nn.MSELoss())(Same(), (torch.zeros(6, 1), torch.zeros(6)))


@pytest.mark.parametrize(
    ("batch", "found"),
    [
        (torch.zeros(4, 2), "got a Tensor"),
        ((torch.zeros(4),), "got a tuple of 1"),
        ([torch.zeros(4)] * 3, "got a list of 3"),
        ({"x": torch.zeros(4), "y": torch.zeros(4)}, "got a dict with keys 'x', 'y'"),
        (None, "got a NoneType"),
    ],
)
def test_a_batch_that_is_no_pair_is_refused(batch: Any, found: str) -> None:
    with pytest.raises(
        StepError, match=rf"supervised\(\) expects batches \(inputs, targets\), {found}\. Map the dataset to such pairs"
    ):
        supervised(nn.MSELoss())(Same(), batch)


@pytest.mark.parametrize(
    ("batch", "remedy"),
    [
        (
            (torch.zeros(4),) * 3,
            r"pairs, data\.map_batch\(lambda b: \(b\[:-1\], b\[-1\]\)\), with supervised\(loss, forward=lambda model, inputs: model\(\*inputs\)\), or",
        ),
        ({"x": 1, "z": 2, "y": 3}, r"pairs, data\.map_batch\(lambda b: \(b\['x'\], b\['y'\]\)\), or"),
        ({"x": 1}, r"pairs, or write a step"),
        ((), r"pairs, or write a step"),
    ],
)
def test_a_batch_that_is_no_pair_is_told_how_it_becomes_one(batch: Any, remedy: str) -> None:
    with pytest.raises(StepError, match=remedy):
        supervised(nn.MSELoss())(Same(), batch)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (lambda: nn.CrossEntropyLoss(weight=torch.tensor([1, 9])), "CrossEntropyLoss\\(weight"),
        (lambda: nn.BCEWithLogitsLoss(pos_weight=torch.tensor([9])), "BCEWithLogitsLoss\\(pos_weight"),
    ],
)
def test_weights_of_classes_in_whole_numbers_are_refused_at_once(loss: Any, name: str) -> None:
    with pytest.raises(ArgumentTypeError, match=rf"{name}=\.\.\.\) must hold real numbers, got int64\. Write \w+=\w+\.float\(\)"):
        supervised(loss())
    supervised(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0])))


class Recurrent(nn.Module):
    """Gives what torch's recurrent layers give: outputs and the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.GRU(2, 1, batch_first=True)

    def forward(self, x: Tensor, *, reverse: bool) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = self.memory(x.flip(1) if reverse else x)
        return out


def test_forward_says_how_the_model_is_called_and_what_it_predicts() -> None:
    def forward(model: Any, inputs: Tensor) -> Tensor:
        out: Tensor = model(inputs, reverse=True)[0]
        return out

    model, x, y = Recurrent(), torch.randn(6, 4, 2), torch.randn(6, 4, 1)
    outputs = supervised(nn.MSELoss(), metrics={"r2": R2()}, forward=forward)(model, (x, y))
    predictions = model.memory(x.flip(1))[0]
    assert torch.equal(outputs.loss, nn.functional.mse_loss(predictions, y))
    assert torch.equal(outputs.predictions, predictions)
    assert torch.equal(outputs.metrics["r2"][0], predictions)


def test_the_forward_of_a_step_serves_predictions_of_data_without_targets() -> None:
    def forward(model: Any, inputs: Tensor) -> Tensor:
        out: Tensor = model(inputs, reverse=False)[0]
        return out

    torch.manual_seed(0)
    model, x = Recurrent(), torch.randn(6, 4, 2)
    trainer: Trainer[Any, Any] = Trainer(
        supervised(nn.MSELoss(), forward=forward), optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1), progress=False
    )
    trainer.fit(model, (x, x[..., :1]), epochs=1)
    with_targets = trainer.predict(model, (x, x[..., :1]), batch_size=4)
    assert torch.equal(with_targets, trainer.predict(model, x, forward=forward, batch_size=4))
    assert with_targets.shape == (6, 4, 1)


@pytest.mark.parametrize("forward", ["model", 3, (1, 2)])
def test_a_forward_that_cannot_be_called_is_refused(forward: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"forward must be a function, got .* Write forward=lambda model, inputs"):
        supervised(nn.MSELoss(), forward=forward)


def test_a_list_of_two_is_a_pair() -> None:
    x, y = regression()
    assert supervised(nn.MSELoss())(Same(), [x, y]).count == 6  # type: ignore[arg-type]


def test_metrics_of_functions_give_a_value_a_sample_and_objects_get_the_arguments() -> None:
    x, y = regression()
    step = supervised(nn.MSELoss(), metrics={"error": absolute_error, "r2": R2()})
    outputs = step(Same(), (x.requires_grad_(), y))
    values, arguments = outputs.metrics["error"], outputs.metrics["r2"]
    assert isinstance(values, Tensor)
    assert values.shape == (6,)
    assert not values.requires_grad
    assert arguments == (outputs.predictions, y)
    assert outputs.predictions is x
    assert list(step.metrics) == ["r2"]


@pytest.mark.parametrize(
    ("metric", "found"),
    [
        (lambda p, t: (p - t).abs().mean(), r"\(\)"),
        (lambda p, t: (p - t).abs(), r"\(6, 3\)"),
        (lambda p, t: (p - t).abs().mean().item(), "float"),
        (lambda p, t: (p - t)[:4, 0], r"\(4,\)"),
    ],
)
def test_a_metric_function_must_give_one_value_a_sample(metric: Any, found: str) -> None:
    with pytest.raises(
        StepError, match=rf"metric 'wrong' must give one value a sample, shape \(6,\), got {found}\. Do not average"
    ):
        supervised(nn.MSELoss(), metrics={"wrong": metric})(Same(), regression())


@pytest.mark.parametrize("name", ["loss", "", "a/b", 3, None])
def test_a_metric_needs_a_name_of_its_own(name: Any) -> None:
    with pytest.raises(ArgumentValueError, match=r"a metric's name must be text without '/' and other than 'loss', got"):
        supervised(nn.MSELoss(), metrics={name: absolute_error})


def test_classes_instead_of_instances_are_refused_with_what_to_write() -> None:
    with pytest.raises(
        ArgumentTypeError, match=r"loss must be an instance or a function, got the class MSELoss\. Write MSELoss\(\)"
    ):
        supervised(nn.MSELoss)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match=r"metric 'r2' must be an instance, got the class R2\. Write R2\(\)"):
        supervised(nn.MSELoss(), metrics={"r2": R2})  # type: ignore[dict-item]
    with pytest.raises(ArgumentTypeError, match=r"loss must be a function, got 'mse' \(str\)\. Pass nn\.MSELoss\(\)"):
        supervised("mse")  # type: ignore[arg-type]
    with pytest.raises(
        ArgumentTypeError, match=r"metric 'm' must be a function .* or an object with update, compute and reset, got 3"
    ):
        supervised(nn.MSELoss(), metrics={"m": 3})  # type: ignore[dict-item]


def test_a_bare_loss_becomes_outputs() -> None:
    loss = torch.ones((), requires_grad=True)
    outputs = checked_loss(loss, training=True)
    assert outputs.loss is loss
    assert outputs.count is None
    assert outputs.metrics == {}
    assert outputs.predictions is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"step must return the loss as a Tensor, or Outputs, got None"),
        (0.5, r"got 0\.5 \(float\)\. Return the tensor itself, not loss\.item\(\)"),
        ((torch.ones(()), 3), r"step must return the loss as a Tensor, or Outputs, got \("),
        ({"loss": torch.ones(())}, r"\(dict\)\. Return the loss alone, or Outputs\(loss, metrics=\{\.\.\.\}, predictions=\.\.\.\)"),
        (Outputs(wrong(0.5)), r"Outputs\.loss must be a Tensor, got 0\.5 \(float\)"),
        (torch.ones(3, requires_grad=True), r"must be one real number, shape \(\), got shape \(3,\) of torch\.float32\. Reduce it"),
        (torch.ones((), dtype=torch.complex64, requires_grad=True), r"must be one real number, .* of torch\.complex64"),
        (torch.ones(()), r"the loss has no gradient: .* Look for \.detach\(\), \.item\(\), torch\.no_grad\(\)"),
        (
            Outputs(torch.ones((), requires_grad=True), count=wrong("3")),
            r"Outputs\.count must be an int or a tensor of shape \(\), from 0 on, got '3'",
        ),
        (
            Outputs(torch.ones((), requires_grad=True), count=torch.ones(2)),
            r"Outputs\.count must be .* of shape \(\), from 0 on, got",
        ),
        (Outputs(torch.ones((), requires_grad=True), count=-1), r"Outputs\.count must be .*, got -1 \(int\)"),
        (
            Outputs(torch.ones((), requires_grad=True), metrics={"m": wrong(0.5)}),
            r"Outputs\.metrics\['m'\] must be a tensor .* or a tuple .*, got 0\.5 \(float\)\. Give the tensor itself",
        ),
        (
            Outputs(torch.ones((), requires_grad=True), metrics={"m": torch.ones(2, 2)}),
            r"metric 'm' must have shape \(\) or \(samples,\), got \(2, 2\)\. Average it within a sample",
        ),
        (
            Outputs(torch.ones((), requires_grad=True), metrics={"loss": torch.ones(())}),
            r"a metric's name must be other than 'loss'",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_refused(value: object, message: str) -> None:
    with pytest.raises(StepError, match=message):
        checked_loss(value, training=True)


def test_without_training_a_loss_needs_no_gradient() -> None:
    assert checked_loss(torch.ones(()), training=False).loss.item() == 1.0


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_metric_that_asks_a_network_of_its_own_makes_no_graph(wrapped: bool) -> None:
    """Seen to fail where only the predictions are taken from their graph."""
    judge, asked = nn.Linear(1, 1), list[bool]()

    def judged(predictions: Any, targets: Tensor) -> Tensor:
        values: Tensor = judge(predictions["y"] if wrapped else predictions)
        asked.append(values.requires_grad)
        return values.reshape(-1)

    def forward(model: nn.Module, inputs: Tensor) -> Any:
        return {"y": model(inputs)} if wrapped else model(inputs)

    def loss(predictions: Any, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(predictions["y"] if wrapped else predictions, targets)

    outputs = supervised(loss, metrics={"judged": judged}, forward=forward)(nn.Linear(1, 1), (torch.rand(4, 1), torch.rand(4, 1)))
    assert asked == [False]
    assert outputs.loss.requires_grad
