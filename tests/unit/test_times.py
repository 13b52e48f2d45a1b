"""The times of what is heard: words are spread over the voice, and a segment across a cut-out pause is taken apart."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.audio.plan import Piece
from gpu_worker.audio.stretches import WINDOW, PlanSettings, Stretch
from gpu_worker.audio.voice import Voice
from gpu_worker.engine.protocol import HeardWord, SegmentFound
from gpu_worker.job.alignment import spread
from gpu_worker.job.times import Part, Timer
from gpu_worker.job.wrapping import wrapped
from gpu_worker.pcm import SAMPLE_RATE as RATE
from schemas.jobs import Word


def voice(*spoken: tuple[float, float], secs: float = 600) -> Voice:
    """A voice that speaks from and to these seconds of the file."""
    activity = np.zeros(int(secs * RATE / WINDOW), np.float32)
    for start, end in spoken:
        activity[round(start * RATE / WINDOW) : round(end * RATE / WINDOW)] = 0.95
    return Voice(activity, PlanSettings())


def stretch(*spans: tuple[float, float]) -> Stretch:
    return [(round(start * RATE), round(end * RATE)) for start, end in spans]


def timer(speaker: Voice, spans: Stretch, after: float = 0.0) -> Timer:
    return Timer(Piece(pcm=Path("0.pcm"), stretch=spans, voice=speaker), after)


def heard(start: float, end: float, text: str) -> SegmentFound:
    """A segment whose words whisper has given times that nobody can use."""
    words = [
        HeardWord(start=end, end=start, text=f" {word}", probability=1, tokens=[number])
        for number, word in enumerate(text.split())
    ]
    return SegmentFound(start=start, end=end, words=words)


TWO = voice((120.3, 127), (480.3, 490.6))
TWO_SPANS = stretch((119.9, 127.4), (479.9, 491))
FIRST = (
    "And Mister Dashwood had then leisure to consider how much there might be in his power to do for them."
)
SECOND = "And so my fellow Americans, ask not what your country can do for you, ask what you can do for your country."


def test_a_segment_behind_a_cut_out_pause_begins_behind_it() -> None:
    """whisper lets it begin where the one before it has ended."""
    times = timer(TWO, TWO_SPANS)
    [first] = times.parts(heard(0, 7, FIRST))
    [second] = times.parts(heard(7, 18, SECOND))
    assert (first.start, first.end) == pytest.approx((120.2, 127.1), abs=0.05)
    assert (second.start, second.end) == pytest.approx((480.2, 490.7), abs=0.05)
    assert second.words[0].start >= 480.2
    assert times.left_out is None


def test_a_segment_across_a_cut_out_pause_is_taken_apart_at_the_word_behind_it() -> None:
    first, second = timer(TWO, TWO_SPANS).parts(heard(0, 18, f"{FIRST} {SECOND}"))
    assert "".join(word.text for word in first.words).split() == FIRST.split()
    assert "".join(word.text for word in second.words).split() == SECOND.split()
    assert first.end < 128
    assert second.start == pytest.approx(480.2, abs=0.05)
    assert [token for word in first.heard + second.heard for token in word.tokens] == [
        *range(len(f"{FIRST} {SECOND}".split()))
    ]


def test_the_end_of_a_neighbours_voice_is_no_beginning() -> None:
    """whisper's time stamps are a few tenths too early here, so that the first voice in the segment is that of the one before it."""
    [part] = timer(voice((1, 3), (4, 7)), stretch((0.6, 7.4)), after=3.0).parts(
        heard(2.2, 6.4, "and this is the second sentence of the two")
    )
    assert (part.start, part.end) == pytest.approx((3.9, 7.1), abs=0.05)


def test_voice_that_has_no_text_is_told() -> None:
    """whisper has jumped over half a minute."""
    times = timer(voice((1, 3), (5, 14), (16, 29)), stretch((0.6, 29.4)))
    [part] = times.parts(heard(0, 28, "When you hear the bell come quickly."))
    assert part.end == pytest.approx(3.1, abs=0.05)
    assert times.left_out is not None
    assert 3.0 <= times.left_out <= 5.0


@pytest.mark.parametrize("noise", [0.3, 0.52])
def test_music_is_no_voice_that_was_left_out(noise: float) -> None:
    activity = np.zeros(1000, np.float32)
    activity[30:100], activity[160:900] = 0.95, noise
    times = timer(Voice(activity, PlanSettings()), stretch((0.6, 29.4)))
    times.parts(heard(0, 28, "When you hear the bell come quickly."))
    assert times.left_out is None


def test_where_nobody_speaks_whispers_own_times_are_kept_inside_one_piece() -> None:
    [part] = timer(voice(), stretch((10, 12), (50, 60))).parts(
        heard(1.0, 7.0, "a song that the detector does not hear")
    )
    assert (part.start, part.end) == pytest.approx((50, 55), abs=0.11)


def test_words_lie_on_the_voice_and_not_in_the_pause() -> None:
    [part] = timer(voice((1, 3), (4.5, 6.5)), stretch((0.6, 7))).parts(
        heard(0, 6, "One two three. Four five six.")
    )
    for word in part.words:
        assert 0.9 <= word.start < word.end <= 3.1 or 4.4 <= word.start < word.end <= 6.7


words = st.lists(st.text("abc,. é日", min_size=1, max_size=12), min_size=1, max_size=40)


@given(
    texts=words,
    spoken=st.lists(st.tuples(st.floats(0, 58), st.floats(0.05, 9)), max_size=8),
    cuts=st.lists(st.floats(0, 60), min_size=2, max_size=8, unique=True),
    times=st.tuples(st.floats(0, 70), st.floats(0, 70)),
    after=st.floats(0, 60),
)
def test_whatever_whisper_says_times_are_in_order_and_outside_of_what_was_cut_out(
    texts: list[str],
    spoken: list[tuple[float, float]],
    cuts: list[float],
    times: tuple[float, float],
    after: float,
) -> None:
    edges = sorted(cuts)[: len(cuts) // 2 * 2]
    spans = [span for span in stretch(*zip(edges[::2], edges[1::2], strict=True)) if span[1] > span[0]]
    if not spans:
        return
    begin, end = sorted(times)
    found = SegmentFound(
        start=begin, end=end, words=[HeardWord(start=0, end=0, text=text, probability=1) for text in texts]
    )
    parts = timer(voice(*((a, a + b) for a, b in spoken), secs=62), spans, after).parts(found)
    assert "".join(word.text for part in parts for word in part.words) == "".join(texts)
    for part in parts:
        points = [edge for word in part.words for edge in (word.start, word.end)]
        assert points == sorted(points)
        assert all(word.end > word.start for word in part.words)
        assert part.start - 0.001 <= points[0]
        assert points[-1] <= part.end + 0.001
        most = 0.02 * len(part.words) + 0.01
        assert any(a / RATE - most <= part.start and part.end <= b / RATE + most for a, b in spans)
    assert all(
        before.end <= behind.start + 0.001 or before.start <= behind.start
        for before, behind in pairwise(parts)
    )


@given(words, st.lists(st.floats(0.01, 30), min_size=1, max_size=8))
def test_no_word_is_lost_and_none_goes_back(texts: list[str], islands: list[float]) -> None:
    numbers = spread(texts, islands, [0.5] * (len(islands) - 1))
    assert len(numbers) == len(texts)
    assert numbers == sorted(numbers)
    assert set(numbers) <= set(range(len(islands)))


@pytest.mark.parametrize(
    ("text", "islands", "pauses", "last_of_first"),
    [
        ("One two three. Four five six.", [1.4, 1.0], [0.5], "three."),
        ("One two, three four five six.", [1.1, 1.5], [0.5], "two,"),
        ("seven of hearts, and Mr. John Dashwood had then leisure", [1.1, 2.2], [12.0], "hearts,"),
        ("one two three four five six", [1.0, 1.0], [0.2], "three"),
    ],
)
def test_people_pause_where_a_sentence_ends(
    text: str, islands: list[float], pauses: list[float], last_of_first: str
) -> None:
    numbers = spread(text.split(), islands, pauses)
    assert [word for word, number in zip(text.split(), numbers, strict=True) if number == 0][
        -1
    ] == last_of_first


def part(*words: str, tokens: int = 1) -> Part:
    """Words of a second each, which have so many tokens."""
    spoken = [Word(start=n, end=n + 1, text=f" {word}", probability=1) for n, word in enumerate(words)]
    found = [
        HeardWord(
            start=0,
            end=0,
            text=word.text,
            probability=1,
            tokens=[number * tokens + n for n in range(tokens)],
            pieces=[word.text[: len(word.text) // tokens], word.text[len(word.text) // tokens :]][:tokens],
        )
        for number, word in enumerate(spoken)
    ]
    return Part(0.0, float(len(words)), spoken, found)


def test_segments_are_wrapped_between_words() -> None:
    lines = wrapped(part("one", "two", "three", "extraordinarily", "four"), 8, split_on_word=True)
    assert ["".join(word.text for word in line.words) for line in lines] == [
        " one two",
        " three",
        " extraordinarily",
        " four",
    ]
    assert [(line.start, line.end) for line in lines] == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert [token for line in lines for token in line.tokens] == [0, 1, 2, 3, 4]


def test_segments_are_wrapped_between_tokens() -> None:
    lines = wrapped(part("abcdefg", "hijklmn", tokens=2), 7, split_on_word=False)
    assert [[word.text for word in line.words] for line in lines] == [[" abcdefg"], [" hijklmn"]]
    lines = wrapped(part("abcdefg", "hijklmn", tokens=2), 11, split_on_word=False)
    assert [[word.text for word in line.words] for line in lines] == [[" abcdefg", " hij"], ["klmn"]]
    assert [(line.start, line.end) for line in lines] == [(0, 1.5), (1.5, 2)]


def test_without_a_limit_a_segment_is_one_line() -> None:
    [line] = wrapped(part("one", "two", tokens=2), 0, split_on_word=False)
    assert (line.start, line.end, len(line.words), line.tokens) == (0, 2, 2, [0, 1, 2, 3])


@given(words, st.integers(0, 30), st.booleans())
def test_wrapping_loses_nothing(texts: list[str], most: int, split_on_word: bool) -> None:
    whole = part(*texts, tokens=2)
    lines = wrapped(whole, most, split_on_word=split_on_word)
    assert "".join(word.text for line in lines for word in line.words) == "".join(
        word.text for word in whole.words
    )
    assert all(a.end <= b.start for a, b in pairwise(lines))
