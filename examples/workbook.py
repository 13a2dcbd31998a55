"""A workbook with gaps: next month's housing starts in the United States, from 25 monthly indicators in a real .xls file.

python examples/workbook.py                writes out/workbook.png

The workbook is shipped with statsmodels: what the New York Fed's nowcast read on 29 July 2016. A fifth of its cells are
empty, since many series begin late. The forecast stands beside a naive one, that next month is as this month.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from torchflow import EarlyStopping, Trainer, data, supervised
from torchflow.metrics import absolute_error

WORKBOOK = "tsa/statespace/tests/results/frbny_nowcast/Nowcasting/data/US/2016-07-29.xls"
AIM = "HOUST"  # housing starts, thousands a year
POINTS = ("UNRATE", "TCU")  # in per cent already: their change is a difference
SURVEYS = ("GACDISA066MSFRBNY", "GACDFSA066MSFRBPHI")  # which say themselves what has changed
LEFT_OUT = ("GDPC1", "ULCNFB", "A261RX1Q020SBEA", "PPIFIS")  # quarterly, and one that begins in 2009
MONTHS = 2  # that a forecast looks back
Batch = tuple[Tensor, Tensor]


def months() -> tuple[data.Dataset[Any], Tensor, Tensor]:
    """Return the changes of each month, with that of the aim in the next; and from these months on to the last, dates and the aim."""
    package = find_spec("statsmodels")  # the workbook lies inside the package, which need not be imported
    if package is None or package.origin is None:
        raise SystemExit("this example reads a workbook of statsmodels: pip install statsmodels")
    table = data.from_excel(Path(package.origin).parent / WORKBOOK)
    print(f"{len(table)} months, {len(table[0])} columns")
    columns: dict[str, Tensor] = table.take_batch(range(len(table)))
    dates = columns.pop("Date")
    changes = {name: change(name, values) for name, values in columns.items() if name not in LEFT_OUT}
    known = int((~columns[AIM].isnan()).sum()) - 1  # the last month of the workbook has no aim yet
    rows = {name: values[: known - 1] for name, values in changes.items()} | {"next": changes[AIM][1:known]}
    return data.from_tensors(rows), dates[1 : known + 1], columns[AIM][1 : known + 1]


def change(name: str, values: Tensor) -> Tensor:
    """Return the change from month to month, shape (months - 1,): in per cent, in points, or as a survey says it."""
    if name in SURVEYS:
        return values[1:]
    return values.diff() if name in POINTS else 100 * values.log().diff()


def flat(batch: Batch) -> Batch:
    """Return windows of x (batch, months, columns) as (batch, months * columns), and the last month's y."""
    x, y = batch
    return x.flatten(1), y[:, -1]


trainer: Trainer[nn.Module, Batch] = Trainer(
    supervised(nn.MSELoss(), metrics={"error": absolute_error}),
    optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=0.001, weight_decay=1.0),
    callbacks=[EarlyStopping("valid/loss", patience=40, restore_best=True)],
    progress=False,
)


def draw(dates: Tensor, truth: Tensor, forecasts: dict[str, Tensor], path: Path) -> None:
    """Draw the test months with their forecasts, and how the errors add up."""
    left, right = (figure := Figure(figsize=(11, 4), layout="constrained")).subplots(1, 2)
    time = dates.numpy().astype("datetime64[s]")
    left.plot(time, truth, color="0.3", label="housing starts")
    for (name, forecast), colour in zip(forecasts.items(), ("#0072B2", "#E69F00"), strict=True):
        left.plot(time, forecast, ".", color=colour, label=name)
        right.plot(time, (forecast - truth).abs().cumsum(0) / 1000, color=colour)
    left.set(ylabel="thousands a year")
    right.set(ylabel="sum of absolute errors, millions a year")
    figure.legend(frameon=False, ncols=3, loc="outside upper center")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Learn from the first years, choose by the next ones, and forecast the last."""
    parser = argparse.ArgumentParser(description="Forecast a monthly indicator from a workbook with gaps.")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where the picture goes")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    rows, dates, starts = months()
    parts = rows.split(0.6, 0.15, 0.25, time=True)
    encoding = data.TableEncoder(target="next", missing="indicator").fit(parts[0])
    train, valid, test = (encoding.encode(part).windows(MONTHS).map_batch(flat) for part in parts)
    print(
        f"{len(encoding.columns)} numbers a month, {sum('missing' in name for name in encoding.columns)} of them say where a gap is"
    )

    model = nn.Linear(train[0][0].numel(), 1)
    nn.init.zeros_(model.weight)  # a squared error has one valley, so any start will do: this one is the mean change
    nn.init.zeros_(model.bias)
    result = trainer.fit(model, train, epochs=400, validation=valid)
    growth = encoding.inverse(trainer.predict(result.model, test))
    assert isinstance(growth, Tensor)
    now, truth = starts[-len(test) - 1 : -1], starts[-len(test) :]  # of each test month, and of the month after
    forecasts = {"forecast": now * (growth[:, 0] / 100).exp(), "next month as this month": now}
    draw(dates[-len(test) :], truth, forecasts, out / "workbook.png")

    print(
        f"\nmean absolute error of {len(test)} forecasts, {np.datetime64(int(dates[-len(test)]), 's').astype('datetime64[M]')} on"
    )
    for name, forecast in forecasts.items():
        print(f"  {name:<26} {(forecast - truth).abs().mean():.1f} thousand starts a year")
    print(f"stopped       {result.reason}\npicture       {out / 'workbook.png'}")


if __name__ == "__main__":
    main()
