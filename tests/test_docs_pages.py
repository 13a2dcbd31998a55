"""What puts the examples into the documentation: titles, commands and pictures."""

from __future__ import annotations

import os
from pathlib import Path

from docs.gallery_pages import copied, moved, titled

PAGE = """.. _sphx_glr_gallery_image_files.py:

A sentence, as docstrings begin.

python examples/image_files.py            one thing
python examples/image_files.py --data b   another

More words: python examples/image_files.py is among them.
"""


def test_a_page_of_an_example_is_called_by_its_file_and_shows_commands_line_by_line() -> None:
    text = titled("gallery/image_files", PAGE)
    assert "gallery_image_files.py:\n\nImage files\n===========\n\nA sentence, as" in text
    command = ".. code-block:: text\n\n   python examples/image_files.py            one thing\n   python examples/image_files.py --data b   another\n\n"
    assert command in text
    assert text.endswith("\n\nMore words: python examples/image_files.py is among them.\n")


def test_a_page_of_no_example_stays_as_it_is() -> None:
    assert titled("gallery/index", "Gallery\n=======\n") == "Gallery\n=======\n"


def test_pictures_are_moved_in_the_order_in_which_they_were_drawn(tmp_path: Path) -> None:
    out, images = tmp_path / "out", tmp_path / "images"
    for folder in (out, images):
        folder.mkdir()
    for second, name in enumerate(("b", "a", "c")):
        (out / f"{name}.png").write_text(name, encoding="utf-8")
        os.utime(out / f"{name}.png", (second, second))
    (out / "model.safetensors").write_text("", encoding="utf-8")
    places = (str(images / f"{number}.png") for number in range(9))
    assert [Path(path).read_text(encoding="utf-8") for path in moved(out, places)] == ["b", "a", "c"]
    assert [path.name for path in out.iterdir()] == ["model.safetensors"]
    assert moved(tmp_path / "none", places) == []


def test_examples_are_run_in_copies_beside_which_nothing_lies(tmp_path: Path) -> None:
    examples, copies = tmp_path / "examples", tmp_path / "copies"
    examples.mkdir()
    for name in ("one.py", "README.rst", "notes.txt"):
        (examples / name).write_text(name, encoding="utf-8")
    (copies / "out").mkdir(parents=True)
    assert copied(examples, copies) == str(copies)
    assert sorted(path.name for path in copies.iterdir()) == ["README.rst", "one.py"]
