"""What makes pages of examples and of the source, and what checks the links of the pages that were built."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from docs.check.links import broken_links
from docs.gallery_pages import copied, moved, titled
from docs.house_page import floors_of, house
from tests.test_house import FLOORS, SOURCE, syntax_tree

TESTS = Path(__file__).parent

PAGE = """.. _sphx_glr_gallery_image_files.py:

A sentence, as docstrings begin.

python examples/image_files.py            one thing
python examples/image_files.py --data b   another

More words: python examples/image_files.py is among them.
"""


def test_a_page_of_an_example_is_called_by_its_file_and_shows_commands_line_by_line() -> None:
    text = titled("gallery/image_files", PAGE)
    assert "gallery_image_files.py:\n\nImage files\n===========\n\nA sentence, as" in text
    commands = [
        ".. code-block:: console\n",
        "$ python examples/image_files.py  # one thing",
        "$ python examples/image_files.py --data b  # another",
    ]
    assert f"docstrings begin.\n\n{chr(10).join(commands).replace('$', '   $')}\n\nMore words" in text
    assert text.endswith("\n\nMore words: python examples/image_files.py is among them.\n")


def test_captions_of_the_overview_do_not_say_how_an_example_is_run() -> None:
    text = "<div>Which is which? Run python examples/film.py [--film PATH].</div>\n"
    assert titled("gallery/index", text) == "<div>Which is which?</div>\n"
    assert "\nA GAN\n=====\n" in titled("gallery/gan", ".. _sphx_glr_gallery_gan.py:\n\nTwo networks.\n")


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


def test_the_map_of_the_house_is_the_table_of_the_test_with_what_each_file_says_of_itself() -> None:
    text = house(TESTS / "test_house.py", SOURCE)
    assert floors_of(TESTS / "test_house.py") == FLOORS
    places = {unit: text.index(f"**{unit.replace('_', chr(92) + '_')}**") for unit in ("__main__", "trainer", "run", "errors")}
    assert sorted(places, key=places.__getitem__) == ["__main__", "trainer", "run", "errors"]  # the roof first
    assert (ast.get_docstring(syntax_tree("loop.py")) or "").splitlines()[0] in text


def test_a_unit_without_a_file_is_left_out_of_the_map_and_references_become_words(tmp_path: Path) -> None:
    (tmp_path / "test_house.py").write_text("FLOORS = (('one', 'gone'),)\n", encoding="utf-8")
    (tmp_path / "one.py").write_text('"""What :func:`~torchflow.update` does.\n\nMore."""\n', encoding="utf-8")
    assert house(tmp_path / "test_house.py", tmp_path).endswith("   * - 0\n     - | **one**: What ``torchflow.update`` does.\n")
    (tmp_path / "test_house.py").write_text("WALLS = ()\n", encoding="utf-8")
    with pytest.raises(LookupError, match="has no table of floors"):
        floors_of(tmp_path / "test_house.py")


def test_the_page_of_laws_names_every_file_that_tests_one() -> None:
    page = (TESTS.parent / "docs" / "explanation" / "laws.rst").read_text(encoding="utf-8")
    assert [path.name for path in (TESTS / "laws").glob("test_*.py") if f"``{path.name}``" not in page] == []


WRONG_LINKS = {
    "gone.html": "there is no such file",
    "pages/": "there is no such file",  # a folder without an index
    "two.html#none": "there is no such anchor",
    "#none": "there is no such anchor",
    "../../etc/passwd": "it leads out of the site",
    "/gone.js": "there is no such file",
}
RIGHT_LINKS = (
    "two.html",
    "two.html#here",
    "two.html#named",
    "pages/a%20b.html",
    "?q=x",
    "#top",
    "#",
    "https://x.org/y#z",
    "mailto:a@b.org",
    "/two.html",
)


def site(folder: Path, body: str) -> Path:
    for name, text in {"two.html": "<p id=here><a name=named>", "pages/a b.html": "<p>", "one.html": f"<p id=top>\n{body}"}.items():
        (folder / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "site" / name).write_text(text, encoding="utf-8")
    return folder / "site"


@pytest.mark.parametrize("link", WRONG_LINKS)
@pytest.mark.parametrize("tag", ["<a href='{}'>", "<img src='{}'>", "<img srcset='two.html 1x, {} 2x'>"])
def test_a_link_that_leads_nowhere_is_told_with_its_line(tmp_path: Path, link: str, tag: str) -> None:
    assert broken_links(site(tmp_path, tag.format(link))) == [f"one.html:2: {link}: {WRONG_LINKS[link]}"]


def test_links_that_lead_somewhere_and_those_to_other_sites_are_right(tmp_path: Path) -> None:
    assert broken_links(site(tmp_path, "".join(f"<a href='{link}'>" for link in RIGHT_LINKS))) == []
    assert broken_links(site(tmp_path, "<script src='two.html'></script><code>&lt;a href='gone'&gt;</code>")) == []
