"""Restart backoff, frames, the order of words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.engine import protocol
from gpu_worker.job.times import SHORTEST_SECS, in_order
from schemas.jobs import Word
from schemas.options import Task, TranscribeOptions
from standalone.restarts import MAX_DELAY_SECS, STABLE_SECS, Backoff, death_in_words

MESSAGES = [
    protocol.Load(model_path="/m", threads=2, beam_size=8),
    protocol.Transcribe(
        call=1,
        pcm_path="/p",
        spans=[(0, 5), (7, 9)],
        options=TranscribeOptions(language="auto", task=Task.TRANSLATE, words=True, beam_size=5),
        said=[protocol.SaidSegment(text=" ü", secs=1.5)],
    ),
    protocol.Abort(call=1),
    protocol.Loaded(backend="cpu", load_secs=0.5),
    protocol.LoadFailed(reason="no"),
    protocol.SegmentFound(
        start=0, end=1, words=[protocol.HeardWord(start=0, end=1, text=" ü", probability=1)]
    ),
    protocol.ProgressMade(fraction=0.5),
    protocol.Finished(language="de", language_probability=0.9, engine_secs=1),
    protocol.Aborted(),
    protocol.Rejected(reason="no", fatal=True),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_frames_round_trip(message: protocol.AnyCommand | protocol.AnyReply) -> None:
    data = protocol.frame(message)
    assert protocol.body_length(data[:4]) == len(data) - 4
    decoder = protocol.command_decoder if isinstance(message, protocol.Command) else protocol.reply_decoder
    assert decoder.decode(data[4:]) == message


@pytest.mark.parametrize("header", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"Segm"])
def test_what_is_no_frame(header: bytes) -> None:
    with pytest.raises(ValueError, match="none of ours"):
        protocol.body_length(header)


def test_backoff_doubles_to_a_limit_and_forgives_a_stable_life() -> None:
    backoff = Backoff()
    delays = [backoff.after_death(1.0) for _ in range(10)]
    assert delays[:3] == [0.5, 1.0, 2.0]
    assert delays[-1] == MAX_DELAY_SECS
    assert backoff.after_death(STABLE_SECS) == 0.5


def test_deaths_are_told_in_words() -> None:
    assert death_in_words("gateway", -9) == "gateway was ended by signal 9"
    assert death_in_words("gateway", 1) == "gateway exited with status 1"


@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20)), max_size=20),
    st.floats(0, 10),
    st.floats(0.2, 10),
)
def test_words_follow_each_other_inside_their_segment(
    times: list[tuple[float, float]], start: float, length: float
) -> None:
    words = [Word(start=begin, end=end, text="x", probability=1) for begin, end in times]
    found = in_order(words, start, start + length)
    edges = [edge for word in found for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert all(word.end - word.start > SHORTEST_SECS / 2 for word in found)
    assert all(start - 0.001 <= word.start and word.end <= start + length + 0.001 for word in found)


def test_times_that_are_right_are_left_as_they_are() -> None:
    words = [
        Word(start=1.0, end=1.4, text=" a", probability=1),
        Word(start=1.5, end=2, text=" b", probability=1),
    ]
    assert in_order(words, 1.0, 2.0) == words
