"""Vocabularies: what is promised to come back exactly does, for any Unicode; what is learnt is learnt from train alone."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from torchflow import data, load_model, save_model
from torchflow.data import FittedVocabulary, Vocabulary, encoder_from_state, from_iterable
from torchflow.data.tokens import ByteTokens
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, LeakError, MissingExtraError, TorchflowError

TEXTS = st.lists(st.text(max_size=30), min_size=1, max_size=6)
EXACT = ("byte", "character", "bpe")
FLAGS = st.fixed_dictionaries({"padding": st.booleans(), "start": st.booleans(), "end": st.booleans()})
Any_kind: Any = Vocabulary  # called with what its annotations forbid


@given(texts=TEXTS.filter("".join), kind=st.sampled_from(EXACT), flags=FLAGS, unknown=st.sampled_from(["error", "token"]))
@settings(deadline=None, max_examples=120)
def test_texts_of_the_training_split_come_back_exactly(texts: list[str], kind: str, flags: dict[str, bool], unknown: str) -> None:
    fitted = Vocabulary(kind, unknown=unknown, **flags).fit(from_iterable(texts))
    for text in texts:
        ids = fitted.encode(text)
        assert ids.dtype == torch.int64
        assert fitted.decode(ids) == text
        assert not len(ids) or int(ids.max()) < fitted.size
        assert (fitted.start is None) or int(ids[0]) == fitted.start
        assert (fitted.end is None) or int(ids[-1]) == fitted.end
        assert len(ids) >= flags["start"] + flags["end"]
    again = encoder_from_state(fitted.state())
    assert isinstance(again, FittedVocabulary)
    assert all(torch.equal(again.encode(text), fitted.encode(text)) for text in texts)
    assert (again.size, again.specials) == (fitted.size, fitted.specials)


@given(train=TEXTS, other=st.text(max_size=60), kind=st.sampled_from(["byte", "bpe"]))
@settings(deadline=None, max_examples=80)
def test_bytes_and_byte_pairs_bring_any_text_back_whatever_they_were_fitted_on(train: list[str], other: str, kind: str) -> None:
    fitted = Vocabulary(kind).fit(from_iterable(train))
    assert fitted.decode(fitted.encode(other)) == other


@given(train=TEXTS.filter("".join), other=st.text(max_size=30))
@settings(deadline=None, max_examples=60)
def test_unknown_characters_are_errors_or_a_token(train: list[str], other: str) -> None:
    known = set("".join(train))
    token = Vocabulary(unknown="token").fit(from_iterable(train))
    expected = "".join(character if character in known else "\ufffd" for character in other)
    assert token.decode(token.encode(other)) == expected
    assert token.encode(other).eq(-1 if token.unknown is None else token.unknown).tolist() == [
        character not in known for character in other
    ]
    strict = Vocabulary().fit(from_iterable(train))
    if set(other) <= known:
        assert strict.decode(strict.encode(other)) == other
    else:
        with pytest.raises(DataError, match=r"\(U\+[0-9A-F]+\) was not in the training split. Use Vocabulary\(unknown=\"token\"\)"):
            strict.encode(other)


@given(train=TEXTS.filter("".join), test=TEXTS, kind=st.sampled_from(["byte", "character", "word", "bpe"]))
@settings(deadline=None, max_examples=40)
def test_nothing_is_learnt_outside_the_training_split(train: list[str], test: list[str], kind: str) -> None:
    try:
        alone = Vocabulary(kind).fit(from_iterable(train))
    except ArgumentValueError:  # no word in it
        return
    both = from_iterable(train + test)
    beside = Vocabulary(kind).fit(both.take(len(train)))
    assert all(_equal(alone.state()[name], value) for name, value in beside.state().items())


def _equal(one: object, other: object) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other


def test_only_the_training_split_is_learnt_from() -> None:
    texts = from_iterable(["one", "two", "three", "four"])
    train, valid = texts.split(0.5, 0.5, seed=0)
    for held_out in (texts, valid):
        with pytest.raises(LeakError, match="Vocabulary"):
            Vocabulary().fit(held_out)
    assert Vocabulary().fit(train).size > 2


def test_the_most_frequent_tokens_are_kept_and_ties_fall_to_the_smaller() -> None:
    train = from_iterable(["aaab bb ccd"])
    fitted = Vocabulary(size=4, unknown="token").fit(train)
    assert fitted.decode(torch.arange(1, fitted.size)) == " ab"  # 3 a, 3 b, 2 spaces, 2 c: the space is the smaller
    assert Vocabulary(minimum=3, unknown="token").fit(train).size == len(Vocabulary(minimum=3, unknown="token").fit(train)) == 3
    words = Vocabulary("word", size=3, unknown="token").fit(from_iterable(["the cat, the dog, the end"]))
    assert words.decode(words.encode("the cat, dog")) == "the \ufffd , \ufffd"
    assert Vocabulary("bpe", size=258).fit(from_iterable(["ababab" * 10])).encode("abab").tolist() == [257]


def test_words_are_words_and_signs() -> None:
    fitted = Vocabulary("word", lowercase=True, unknown="token", start=True, end=True).fit(from_iterable(["The cat's hat."]))
    ids = fitted.encode("the HAT. Zebra")
    assert fitted.decode(ids) == "the hat . \ufffd"
    assert ids[0] == fitted.start
    assert ids[-1] == fitted.end
    with pytest.raises(DataError, match="'dog' was not in the training split"):
        Vocabulary("word").fit(from_iterable(["cat"])).encode("cat dog")


def test_special_tokens_come_first_and_text_cannot_spell_them() -> None:
    fitted = Vocabulary("bpe", padding=True, start=True, end=True).fit(from_iterable(["<padding><start><s></s>"] * 3))
    assert (fitted.padding, fitted.unknown, fitted.start, fitted.end) == (0, None, 1, 2)
    ids = fitted.encode("<padding><start>")
    assert (ids[1:-1] > 2).all()
    assert fitted.decode(torch.cat((ids, torch.zeros(3, dtype=torch.int64)))) == "<padding><start>"


def test_a_sample_is_encoded_where_its_text_is() -> None:
    pairs = from_iterable([("ab", 1), ("ba", 0)])
    fitted = Vocabulary().fit(pairs)
    assert [(x.tolist(), y) for x, y in pairs.map(fitted)] == [([0, 1], 1), ([1, 0], 0)]
    assert fitted("ab").tolist() == [0, 1]
    records = from_iterable([{"text": "ab", "y": 1}])
    assert records.map(Vocabulary(field="text").fit(records))[0]["text"].tolist() == [0, 1]
    with pytest.raises(DataError, match=r"Use dataset.map\(vocabulary\): texts of a batch differ in length"):
        pairs.map_batch(fitted).take_batch([0, 1])
    with pytest.raises(DataError, match=r"must be text, got 1 \(int\)"):
        Vocabulary(field=1).fit(pairs)


def test_it_is_saved_with_the_model_and_travels_between_processes(tmp_path: Path) -> None:
    train = from_iterable(["some text, and more of the text"] * 2)
    for kind in ("byte", "character", "word", "bpe"):
        fitted = Vocabulary(kind, padding=True).fit(train)
        fitted.encode("text")
        save_model(nn.Linear(1, 1), tmp_path / "m.safetensors", encoders={"text": fitted})
        loaded = data.load_encoders(tmp_path / "m.safetensors")["text"]
        assert torch.equal(loaded("more text"), fitted("more text"))
        sent = pickle.loads(pickle.dumps(fitted))
        assert torch.equal(sent("more text"), fitted("more text"))
    load_model(tmp_path / "m.safetensors", into=nn.Linear(1, 1))


@given(
    texts=st.lists(st.text("abc", max_size=12), min_size=1, max_size=5),
    length=st.integers(1, 9),
    stride=st.none() | st.integers(1, 12),
    kind=st.sampled_from(["byte", "character"]),
)
@settings(deadline=None, max_examples=80)
def test_targets_are_the_inputs_one_token_later(texts: list[str], length: int, stride: int | None, kind: str) -> None:
    fitted = Vocabulary(kind, end=True).fit(from_iterable(["abc"]))
    row = [number for text in texts for number in fitted.encode(text).tolist()]
    starts = range(0, len(row) - length, stride or length)
    if not starts:
        with pytest.raises(DataError, match=f"a window of {length} tokens and the one after it do not fit into {len(row)} tokens"):
            fitted.windows(from_iterable(texts), length, stride)
        return
    windows = fitted.windows(from_iterable(texts), length, stride)
    assert windows.source.columnar
    assert len(windows) == len(starts)
    x, y = windows.take_batch(range(len(windows)))
    assert x.tolist() == [row[start : start + length] for start in starts]
    assert y.tolist() == [row[start + 1 : start + length + 1] for start in starts]
    assert (x.dtype, y.dtype) == (torch.int64, torch.int64)
    assert torch.equal(windows[len(windows) - 1][1], y[-1])
    if stride is None:
        assert y.reshape(-1).tolist() == row[1 : 1 + y.numel()], "every token is a target once"


def test_windows_are_made_without_a_python_call_a_sample() -> None:
    fitted = Vocabulary("byte").fit(from_iterable(["x"]))
    calls = 0

    def counted(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    windows = fitted.windows("ab" * 5_000, length=8)
    few: list[int] = []
    many: list[int] = []
    for made, count in ((few, 4), (many, 1_000)):
        calls = 0
        sys.setprofile(counted)
        try:
            windows.take_batch(torch.arange(count))
        finally:
            sys.setprofile(None)
        made.append(calls)
    assert few == many
    assert str(windows.schema) == "inputs: int64 8, targets: int64 8"


def test_texts_for_windows_come_as_one_as_several_or_as_a_dataset() -> None:
    fitted = Vocabulary("byte").fit(from_iterable(["x"]))
    one = fitted.windows("abcdef", 2)
    assert torch.equal(one.take_batch([0, 1])[0], fitted.windows(["abc", "def"], 2).take_batch([0, 1])[0])
    labelled = from_iterable([("abc", 1), ("def", 0)])
    assert torch.equal(one.take_batch([0, 1])[1], fitted.windows(labelled, 2).take_batch([0, 1])[1])
    assert fitted.numbers(iter(["a", "b"])).tolist() == [97, 98]


BYTE = Vocabulary("byte").fit(from_iterable(["x"]))


def _state(**changes: Any) -> dict[str, Any]:
    return {
        "encoder": "vocabulary",
        "kind": "character",
        "field": 0,
        "specials": [],
        "characters": torch.tensor([97, 98]),
        **changes,
    }


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Any_kind("letters"), ArgumentValueError, "kind must be one of 'byte', 'character', 'word', 'bpe'"),
        (lambda: Any_kind(size=0), ArgumentValueError, "size must be an int of at least 1"),
        (lambda: Any_kind("bpe", size=200), ArgumentValueError, "size must be an int of at least 256 .* Special tokens count too"),
        (lambda: Any_kind("byte", size=300), ArgumentValueError, "a vocabulary of bytes has 256 tokens, got size=300"),
        (lambda: Any_kind(minimum=0), ArgumentValueError, "minimum must be"),
        (lambda: Any_kind(unknown="ignore"), ArgumentValueError, "unknown must be one of 'error', 'token'"),
        (lambda: Any_kind(padding=1), ArgumentTypeError, "padding must be True or False"),
        (lambda: Any_kind(lowercase=True), ArgumentValueError, "lowercase is for words"),
        (lambda: Any_kind().fit(["a"]), ArgumentTypeError, "Vocabulary.fit takes the training Dataset"),
        (lambda: Any_kind().fit(from_iterable(["a"]).take(0)), DataError, "needs at least one sample"),
        (lambda: Any_kind().fit(from_iterable([""])), ArgumentValueError, "no character is frequent enough"),
        (lambda: Any_kind("word").fit(from_iterable([" "])), ArgumentValueError, "no word is frequent enough"),
        (
            lambda: Any_kind().fit(from_iterable(["ab", "a\ud800"])),
            DataError,
            r"sample 1 holds half a character.*U\+D800 at character 1",
        ),
        (lambda: BYTE.encode("\udcff"), DataError, r"the lone surrogate U\+DCFF at character 0"),
        (lambda: BYTE.decode(torch.tensor([256])), ArgumentValueError, "ids must be from 0 to 255, got 256"),
        (lambda: BYTE.decode(torch.tensor([0.5])), ArgumentTypeError, "ids must be a tensor of whole numbers"),
        (lambda: BYTE.windows("abc", 0), ArgumentValueError, "length must be"),
        (lambda: encoder_from_state(_state(kind="x")), ArgumentValueError, "the state's kind must be one of"),
        (lambda: encoder_from_state(_state(specials=["end", "start"])), ArgumentValueError, "the state's specials must be some of"),
        (lambda: encoder_from_state(_state(characters=torch.tensor([98, 97]))), ArgumentValueError, "rising code points"),
        (lambda: encoder_from_state(_state(characters=torch.tensor([2**40]))), ArgumentValueError, "rising code points"),
        (
            lambda: encoder_from_state(_state(characters=torch.tensor([0.5]))),
            ArgumentValueError,
            "must be a tensor of whole numbers",
        ),
        (lambda: encoder_from_state(_state(kind="word")), ArgumentValueError, "lacks 'words'"),
        (
            lambda: encoder_from_state(_state(kind="word", words=torch.tensor([97, 10, 97]), lowercase=False)),
            ArgumentValueError,
            "each once",
        ),
        (
            lambda: encoder_from_state(_state(kind="word", words=torch.tensor([255]), lowercase=False)),
            ArgumentValueError,
            "must be UTF-8",
        ),
        (
            lambda: encoder_from_state(_state(kind="bpe", merges=torch.tensor([[0, 256]]))),
            ArgumentValueError,
            "merge 0 joins tokens 0 and 256",
        ),
        (lambda: encoder_from_state(_state(kind="bpe", merges=torch.tensor([1]))), ArgumentValueError, r"shape \(merges, 2\)"),
        (
            lambda: encoder_from_state(_state(kind="bpe", merges=torch.stack([torch.arange(255, 300)] * 2, 1))),
            ArgumentValueError,
            "makes a token of 8192 bytes",
        ),
    ],
)
def test_what_is_no_vocabulary_or_text_is_refused(call: Any, error: type[TorchflowError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_without_the_extra_the_error_names_it_and_the_other_kinds_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    train = from_iterable(["some text"])
    with pytest.raises(
        MissingExtraError, match=r"pip install 'torchflow-train\[text\]', or a Vocabulary of bytes, characters or words"
    ):
        Vocabulary("bpe").fit(train)
    for kind in ("byte", "character", "word"):
        Vocabulary(kind).fit(train)


def test_texts_are_read_once_and_a_long_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def text(index: int) -> str:
        reads.append(index)
        return "ab" * index

    Vocabulary("character").fit(data.from_function(text, 5))
    assert reads == [0, 1, 2, 3, 4]
    monkeypatch.setattr("torchflow.data.fitted_vocabulary.LARGEST_TEXT", 5)
    with pytest.raises(DataError, match="sample 3 has 6 characters, above 5"):
        Vocabulary("byte").fit(data.from_function(text, 5)).windows(data.from_function(text, 5), 1)


def test_byte_pairs_are_learnt_equally_every_time_and_shorten_text() -> None:
    def texts() -> Iterator[str]:
        yield from (f"the {word} and the {word}s of {word}land" for word in ("king", "queen", "cat") for _ in range(5))

    one, other = (Vocabulary("bpe", size=280).fit(from_iterable(texts())) for _ in range(2))
    assert _equal(one.state()["merges"], other.state()["merges"])
    text = next(texts())
    assert one.size == 280
    assert len(one.encode(text)) < len(ByteTokens().ids(text)) / 2


def test_two_merges_that_spell_one_token_make_it_once() -> None:
    merges = torch.tensor([[97, 98], [98, 99], [256, 99], [97, 257], [258, 100]])  # ab, bc, ab+c, a+bc: abc again, abc+d
    fitted = encoder_from_state(_state(kind="bpe", merges=merges))
    assert isinstance(fitted, FittedVocabulary)
    assert fitted.size == 260
    assert fitted.encode("abcd").tolist() == [259]
    assert fitted.encode("bc").tolist() == [257]
    assert fitted.decode(fitted.encode("abc abcd bcd")) == "abc abcd bcd"
