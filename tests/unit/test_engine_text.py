"""What goes into whisper and comes out of it as tokens: prompts, words, what was published before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.engine.protocol import SaidSegment
from gpu_worker.engine.whisper_cpp.english import beyond_english
from gpu_worker.engine.whisper_cpp.prompts import CARRIED_TOKENS, MOST_TOKENS, SAID_TOKENS, prompt_of
from gpu_worker.engine.whisper_cpp.words import Speller, Token
from gpu_worker.job.segments import Differs, Published, compression_ratio, said
from schemas.jobs import Segment
from schemas.options import Task, TranscribeOptions

STAMP = 10_000


def letters(text: str) -> list[int]:
    """A tokenizer that makes one token of each character."""
    return [ord(character) for character in text]


def text_of(tokens: list[int]) -> str:
    return "".join(chr(token) if token < STAMP else "|" for token in tokens)


def test_hotwords_and_prompt_are_carried_and_the_text_so_far_is_not() -> None:
    found = prompt_of(
        letters, STAMP, "Dashwoode", " Names:\n Ada ", [SaidSegment(text=" one two.", secs=1.5)]
    )
    assert text_of(found.carried) == " Dashwoode Names: Ada"
    assert found.said == [STAMP, *letters(" one two."), STAMP + 75]
    assert found.context == len(found.carried) + SAID_TOKENS + 1


def test_nothing_asked_and_nothing_said_is_no_prompt() -> None:
    found = prompt_of(letters, STAMP, " ", "", [])
    assert (found.carried, found.said) == ([], [])


def test_what_is_too_long_is_cut_by_tokens() -> None:
    """Hotwords keep their beginning, a prompt its end, which is nearest to what is to be written."""
    asked = prompt_of(letters, STAMP, "", "a" * 500 + "z", [])
    assert len(asked.carried) == CARRIED_TOKENS
    assert text_of(asked.carried).endswith("z")
    preferred = prompt_of(letters, STAMP, "b" * 500, "a" * 500, [])
    assert text_of(preferred.carried) == " " + "b" * (CARRIED_TOKENS - 1)
    assert preferred.context <= MOST_TOKENS


def test_time_stamps_of_the_text_so_far_never_leave_the_window() -> None:
    found = prompt_of(letters, STAMP, "", "", [SaidSegment(text=f" {n}", secs=12.0) for n in range(9)])
    assert text_of(found.said) == "| 5|| 6|| 7|| 8|"
    assert max(found.said) == STAMP + 1500


def tokens(*pieces: bytes) -> list[Token]:
    return [
        Token(id=n, piece=piece, start=n, end=n + 1, probability=0.5, logprob=-1)
        for n, piece in enumerate(pieces)
    ]


@pytest.mark.parametrize(
    ("language", "pieces", "words"),
    [
        ("en", (b" Mr", b".", b" Dash", b"wood", b"e"), [" Mr.", " Dashwoode"]),
        (
            "zh",
            ("砸".encode(), "自己".encode(), "的".encode()[:1], "的".encode()[1:], "。".encode()),
            ["砸", "自己", "的", "。"],
        ),
        ("ja", (b" ", "東".encode(), "京".encode()), [" 東", "京"]),
        ("en", (b" a", b" "), [" a "]),
        ("de", ("Ä".encode()[:1], "Ä".encode()[1:] + b"rger"), ["Ärger"]),
        ("en", (b" ",), [" "]),
        ("en", (), []),
    ],
)
def test_words_of_a_segment(language: str, pieces: tuple[bytes, ...], words: list[str]) -> None:
    assert [word.text for word in Speller(language).words(tokens(*pieces))] == words


def test_a_character_in_two_segments_belongs_to_the_second_one() -> None:
    speller = Speller("ja")
    first = speller.words(tokens("東".encode(), "京".encode()[:2]))
    second = speller.words(tokens("京".encode()[2:], "都".encode()))
    assert [[word.text for word in words] for words in (first, second)] == [["東"], ["京", "都"]]
    assert len(first[0].tokens) == 2


@given(st.sampled_from(["en", "zh", "th"]), st.text(max_size=60), st.lists(st.integers(1, 4), max_size=60))
def test_joined_words_are_the_text(language: str, text: str, sizes: list[int]) -> None:
    raw, pieces = text.encode(), list[bytes]()
    for size in [*sizes, *[3] * len(raw)]:
        if raw:
            pieces.append(raw[:size])
            raw = raw[size:]
    words = Speller(language).words(tokens(*pieces))
    assert "".join(word.text for word in words) == text
    assert sum(len(word.tokens) for word in words) == len(pieces)
    assert all(word.text.strip() for word in words[1:])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (TranscribeOptions(), None),
        (TranscribeOptions(language="en"), None),
        (TranscribeOptions(language="de"), "language=de"),
        (TranscribeOptions(task=Task.TRANSLATE), "task=translate"),
    ],
)
def test_what_a_model_of_english_alone_refuses(options: TranscribeOptions, word: str | None) -> None:
    refused = beyond_english(options)
    assert (refused is None) if word is None else (refused is not None and word in refused)


def segment(index: int, start: float, text: str = " x") -> Segment:
    return Segment(index=index, start=start, end=start + 1, text=text)


BEFORE = [segment(0, 0), segment(1, 5), segment(2, 10), segment(3, 20)]


def test_what_was_published_before_is_found_again() -> None:
    published = Published(BEFORE, begin_secs=10)
    assert published.is_again(segment(0, 10))
    assert published.is_again(segment(0, 20))
    assert not published.is_again(segment(0, 30))
    assert not published.is_again(segment(0, 40))


def test_another_engine_is_noticed() -> None:
    with pytest.raises(Differs):
        Published(BEFORE, begin_secs=10).is_again(segment(0, 10, " y"))


def test_the_engine_is_told_of_its_own_channel() -> None:
    both = [Segment(index=n, start=n, end=n + 0.5, text=f" {n}", channel=1 + n % 2) for n in range(100)]
    assert [each.text for each in said(both, 2)][-2:] == [" 97", " 99"]
    assert said(both, None) == []
    assert {each.secs for each in said(both, 1)} == {0.5}


def test_text_that_repeats_itself_has_a_high_compression_ratio() -> None:
    assert compression_ratio(" and so on" * 30) > 5
    assert compression_ratio(" He was not an ill-disposed young man.") < 1
    assert compression_ratio("") == 0
