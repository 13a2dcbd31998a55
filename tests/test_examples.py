"""The examples run as their readers run them, in a folder of their own; tables that cannot be used are refused in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torchflow import load_model

EXAMPLES = Path(__file__).parent.parent / "examples"
LIMIT_OF_LINES = 120


def run(folder: Path, example: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / example), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def table(folder: Path, text: str) -> str:
    (folder / "table.csv").write_text(text, encoding="utf-8")
    return "table.csv"


def rows(count: int) -> str:
    """A table with y = 3 a - 2 b + 100 and a column that follows from the first."""
    lines = [f"{i},{i * i % 17},{2 * i},{3 * i - 2 * (i * i % 17) + 100}" for i in range(count)]
    return "\n".join(["a,b,twice,y", *lines]) + "\n"


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_enough_to_read(example: Path) -> None:
    assert len(example.read_text(encoding="utf-8").splitlines()) < LIMIT_OF_LINES


def test_the_reference_example_finds_the_line_and_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, "linear_regression.py")
    assert done.returncode == 0, done.stderr
    found = re.search(r"learnt +y = (\S+) x \+ (\S+)\ntrue +y = 0.7000 x \+ 0.3000\n", done.stdout)
    assert found
    assert float(found[1]) == pytest.approx(0.7, abs=0.01)
    assert float(found[2]) == pytest.approx(0.3, abs=0.01)
    assert re.search(r"^epochs +\d+$", done.stdout, re.MULTILINE)
    assert re.search(r"^stopped +valid/loss has not improved for \d+ epochs", done.stdout, re.MULTILINE)
    assert re.search(r"^ +torchflow +0\.000\d+ +0\.99", done.stdout, re.MULTILINE)
    assert (tmp_path / "out" / "linear_regression.png").read_bytes().startswith(b"\x89PNG")
    saved = load_model(tmp_path / "out" / "linear_regression.safetensors", into=_Line(1))
    assert saved.weight.item() == pytest.approx(1.0, abs=0.02)  # in standardised units


class _Line(torch.nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(features, 1))
        self.bias = torch.nn.Parameter(torch.zeros(1))


def test_the_reference_example_is_the_same_every_time(tmp_path: Path) -> None:
    first = run(tmp_path, "linear_regression.py", "--out", "one")
    second = run(tmp_path, "linear_regression.py", "--out", "two")
    assert first.stdout.replace("one/", "two/") == second.stdout
    model = "linear_regression.safetensors"
    assert (tmp_path / "one" / model).read_bytes() == (tmp_path / "two" / model).read_bytes()


def test_a_table_of_numbers_is_learnt_as_well_as_in_closed_form(tmp_path: Path) -> None:
    done = run(tmp_path, "linear_regression.py", "--csv", table(tmp_path, rows(200)), "--target", "y", "--out", "here")
    assert done.returncode == 0, done.stderr
    scores = {
        name: float(score) for name, score in re.findall(r"^  (torchflow|closed form) +\S+ +(\S+)$", done.stdout, re.MULTILINE)
    }
    assert scores["closed form"] == pytest.approx(1.0, abs=1e-3)
    assert scores["torchflow"] == pytest.approx(1.0, abs=1e-3)
    assert (tmp_path / "here" / "linear_regression.png").is_file()
    assert (tmp_path / "here" / "linear_regression.safetensors").is_file()


WRONG_TABLES = {
    "missing file": (None, "y", r"there is no file .*table\.csv"),
    "no such column": (rows(30), "z", r"no column 'z'.*Its columns are 'a', 'b', 'twice', 'y'"),
    "text in a column": (rows(30).replace("\n7,", "\nseven,"), "y", r"line 9, column 'a' is text, not a number: 'seven'"),
    "a gap": (rows(30).replace("\n7,", "\n,"), "y", r"line 9, column 'a' is a gap"),
    "too few rows": (rows(9), "y", r"too few rows: 9 for 3 feature\(s\)\. It needs at least 10"),
    "no rows": ("a,y\n", "y", r"a header and no rows"),
    "an empty file": ("", "y", r"is empty"),
    "a ragged line": (rows(30) + "1,2\n", "y", r"line 32 has 2 cells, and the header has 4"),
    "nothing but the target": ("y\n" + "1\n" * 20, "y", r"left for features"),
    "semicolons": (rows(30).replace(",", ";"), "y", r"delimiter=';'"),
    "numbers beyond float32": (rows(30).replace("\n7,", "\n1e300,"), "y", r"cannot learn from inf"),
}


@pytest.mark.parametrize("wrong", WRONG_TABLES)
def test_a_wrong_table_is_refused_in_one_line(tmp_path: Path, wrong: str) -> None:
    text, target, message = WRONG_TABLES[wrong]
    path = "table.csv" if text is None else table(tmp_path, text)
    done = run(tmp_path, "linear_regression.py", "--csv", path, "--target", target)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert re.search(message, done.stderr)


@pytest.mark.parametrize("words", [("--csv", "table.csv"), ("--target", "y")])
def test_a_table_and_its_target_belong_together(tmp_path: Path, words: tuple[str, str]) -> None:
    done = run(tmp_path, "linear_regression.py", *words)
    assert done.returncode == 2
    assert "--csv and --target belong together" in done.stderr


def test_real_data_is_explained_as_well_as_by_least_squares(tmp_path: Path) -> None:
    done = run(tmp_path, "real_table.py")
    assert done.returncode == 0, done.stderr
    scores = {name.strip(): float(score) for name, score in re.findall(r"^  ([a-z ]+?) +(\d\.\d+)$", done.stdout, re.MULTILINE)}
    assert set(scores) == {"linear model", "network", "least squares"}
    assert scores["linear model"] == pytest.approx(scores["least squares"], abs=0.03)
    assert scores["network"] > 0.3


def test_penguins_are_told_apart_as_well_as_by_logistic_regression(tmp_path: Path) -> None:
    done = run(tmp_path, "penguins.py")
    assert done.returncode == 0, done.stderr
    scores = {
        name: float(score) for name, score in re.findall(r"^  (network|logistic regression) +(\S+)$", done.stdout, re.MULTILINE)
    }
    assert scores["network"] >= scores["logistic regression"] - 0.03
    assert scores["network"] > 0.9
    assert "encoded as 17 numbers: island=Biscoe" in done.stdout
    assert (tmp_path / "out" / "penguins.png").read_bytes().startswith(b"\x89PNG")


def test_a_forecast_from_a_workbook_is_better_than_the_naive_one(tmp_path: Path) -> None:
    done = run(tmp_path, "workbook.py")
    assert done.returncode == 0, done.stderr
    errors = {
        name.strip(): float(error) for name, error in re.findall(r"^  (.+?) +(\S+) thousand starts", done.stdout, re.MULTILINE)
    }
    assert errors["forecast"] < 0.95 * errors["next month as this month"]
    assert (tmp_path / "out" / "workbook.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("example", "package"), [("penguins.py", "palmerpenguins"), ("workbook.py", "statsmodels")])
def test_an_example_without_its_data_says_what_to_install(tmp_path: Path, example: str, package: str) -> None:
    program = (
        "import importlib.util, runpy, sys\nfound = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *rest: None if name == {package!r} else found(name, *rest)\n"
        f"sys.argv = [{example!r}]\nrunpy.run_path({str(EXAMPLES / example)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(rf"this example reads .* of {package}: pip install {package}\n", done.stderr)


def test_leaves_are_told_apart_by_their_outlines(tmp_path: Path) -> None:
    done = run(tmp_path, "time_series.py", "--epochs", "1")  # fifty take a minute, and reach what the gallery says
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("nothing is shared between the splits (train 200, test 242).")
    assert re.search(r"^accuracy +\d+\.\d % of 242 leaves that the network has not seen$", done.stdout, re.MULTILINE)
    assert re.search(r"^published +97\.7 ± 0\.9 % after 2,000 epochs$", done.stdout, re.MULTILINE)
    assert (tmp_path / "out" / "time_series.png").read_bytes().startswith(b"\x89PNG")


def test_digits_in_image_files_are_told_apart(tmp_path: Path) -> None:
    done = run(tmp_path, "image_files.py")
    assert done.returncode == 0, done.stderr
    found = re.search(r"^test accuracy (0\.\d+) on 359 pictures", done.stdout, re.MULTILINE)
    assert found
    assert float(found[1]) > 0.96
    assert len(list((tmp_path / "out" / "digits" / "7").glob("*.png"))) == 179
    assert (tmp_path / "out" / "image_files_digits.png").read_bytes().startswith(b"\x89PNG")


def test_every_floor_ends_with_equal_parameters(tmp_path: Path) -> None:
    done = run(tmp_path, "your_own_loop.py")
    assert done.returncode == 0, done.stderr
    assert "equal on all floors: y = 0.70" in done.stdout


def test_timbres_are_told_apart(tmp_path: Path) -> None:
    done = run(tmp_path, "tones.py")
    assert done.returncode == 0, done.stderr
    found = re.search(r"^accuracy +(\d+\.\d)% of 96 tones that were not learnt", done.stdout, re.MULTILINE)
    assert found
    assert float(found[1]) >= 88
    assert "samples      audio: float32 1x48x32 log energy at 62.5 Hz, label: int64 4 classes" in done.stdout
    assert (tmp_path / "out" / "tones.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "out" / "tones").glob("*/*.ogg"))) == 160


def test_pictures_of_a_film_find_their_sounds(tmp_path: Path) -> None:
    done = run(tmp_path, "film.py")
    assert done.returncode == 0, done.stderr
    assert "88 learnt, 44 not" in done.stdout
    found = re.search(r"^own sound +(\d+)% .*by chance 2%\)\ndistance +(\S+) seconds", done.stdout, re.MULTILINE)
    assert found
    assert int(found[1]) >= 60
    assert float(found[2]) < 0.6
    assert "Big Buck Bunny, (c) Blender Foundation, CC BY 3.0" in done.stdout
    assert (tmp_path / "out" / "film.png").read_bytes().startswith(b"\x89PNG")


def test_a_film_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "film.py", "--film", table(tmp_path, "ffconcat version 1.0\nfile secret.mp4\n"))
    assert done.returncode == 2
    assert re.fullmatch(r"error: table\.csv cannot be decoded: .*'ffconcat version'.*\n", done.stderr)


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    done = run(tmp_path, "linear_regression.py", "--out", "taken")
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*'taken'\n", done.stderr)


def test_the_motif_of_real_binding_sites_is_found_in_a_filter(tmp_path: Path) -> None:
    pytest.importorskip("logomaker", reason="it brings the sites", exc_type=ImportError)
    done = run(tmp_path, "motifs.py")
    assert done.returncode == 0, done.stderr
    found = re.search(
        r"^accuracy +(\d\.\d+) .*\nfound +(\S+) .*\ntrue +(\S+) .*\ncorrelation +(\d\.\d+)$", done.stdout, re.MULTILINE
    )
    assert found
    assert float(found[1]) > 0.8
    assert float(found[4]) > 0.85
    assert re.search("TGTGA......TCACA", found[3])
    assert re.search("T?GTGA|TCAC", found[2])
    assert (tmp_path / "out" / "motifs.png").read_bytes().startswith(b"\x89PNG")


def test_a_character_model_beats_counting_pairs_within_an_epoch(tmp_path: Path) -> None:
    done = run(tmp_path, "characters.py", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    bits = {name: float(value) for name, value in re.findall(r"^  ([a-z ]+?) +(\d\.\d+)$", done.stdout, re.MULTILINE)}
    assert bits["network"] < bits["counted pairs"] < bits["counted characters"]
    assert "The network goes on from 'The ':" in done.stdout
    assert (tmp_path / "out" / "characters.png").read_bytes().startswith(b"\x89PNG")


def test_digits_are_told_apart_better_than_by_logistic_regression(tmp_path: Path) -> None:
    done = run(tmp_path, "digits.py")
    assert done.returncode == 0, done.stderr
    scores = {name.strip(): float(score) for name, score in re.findall(r"^  ([a-z ]+?) +(0\.\d+)$", done.stdout, re.MULTILINE)}
    assert scores["network"] >= 0.98
    assert scores["network"] > scores["logistic regression"]
    assert (tmp_path / "out" / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_a_generator_finds_every_island(tmp_path: Path) -> None:
    done = run(tmp_path, "gan.py")
    assert done.returncode == 0, done.stderr
    assert "\n8 of 8 islands found\n" in done.stdout
    found = re.search(r"^(\d+\.\d)% of the points lie within four standard deviations", done.stdout, re.MULTILINE)
    assert found
    assert float(found[1]) > 75
    assert (tmp_path / "out" / "gan.png").read_bytes().startswith(b"\x89PNG")


def test_a_language_model_counts_tokens_whatever_the_batches(tmp_path: Path) -> None:
    done = run(tmp_path, "language_model.py", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    losses = re.search(r"^loss a token in batches of 7 and of 64: (\S+) (\S+)$", done.stdout, re.MULTILINE)
    assert losses
    assert float(losses[1]) == pytest.approx(float(losses[2]), abs=2e-5)
    bits = {name: float(value) for name, value in re.findall(r"^  ([a-z ]+?) +(\d\.\d+)$", done.stdout, re.MULTILINE)}
    assert bits["transformer"] < 3.2  # after one epoch, where ten bits a token are 3.6; six reach what the gallery shows
    assert "The transformer goes on from 'The ':" in done.stdout
    assert (tmp_path / "out" / "language_model.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_learnt_before_helps_where_there_is_little_to_learn_from(tmp_path: Path) -> None:
    done = run(tmp_path, "transfer.py")
    assert done.returncode == 0, done.stderr
    scores = {name.strip(): float(score) for name, score in re.findall(r"^  ([a-z ]+?) +(0\.\d+)  \(", done.stdout, re.MULTILINE)}
    assert set(scores) == {"from first weights", "a new head on a frozen body", "then all layers"}
    assert scores["then all layers"] >= scores["a new head on a frozen body"] - 0.03
    assert scores["then all layers"] > scores["from first weights"]
    assert (tmp_path / "out" / "transfer.png").read_bytes().startswith(b"\x89PNG")


def test_the_example_of_plots_draws_five_figures(tmp_path: Path) -> None:
    done = run(tmp_path, "plots.py")
    assert done.returncode == 0, done.stderr
    drawn = {path.name: path.read_bytes()[:4] for path in (tmp_path / "out").glob("*.png")}
    names = ("compare", "confusion", "history", "regression", "residuals")
    assert drawn == {f"plots_{name}.png": b"\x89PNG" for name in names}
    found = re.search(r"accuracy (0\.\d+) of a linear model", done.stdout)
    assert found
    assert float(found[1]) > 0.9
