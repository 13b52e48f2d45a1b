"""Segments between the engine and the event log: what they say beside their text, their order, and what was published before. Pure."""

import zlib

import msgspec

from gpu_worker.audio.plan import Piece
from gpu_worker.engine.protocol import SaidSegment, SegmentFound
from gpu_worker.job.times import Timer
from gpu_worker.job.wrapping import wrapped
from gpu_worker.pcm import SAMPLE_RATE
from schemas.jobs import Segment
from schemas.options import TranscribeOptions

SAID_SEGMENTS = 20
"""The last segments that the engine is told of, of which it takes what it has room for."""


def said(published: list[Segment], channel: int | None) -> list[SaidSegment]:
    """Return the last segments of a channel, as the engine is told of them."""
    last = [segment for segment in published if segment.channel == channel][-SAID_SEGMENTS:]
    return [SaidSegment(text=segment.text, secs=round(segment.end - segment.start, 3)) for segment in last]


class Reader:
    """Makes segments of what the engine finds in one call. Their indexes are given when they are published."""

    def __init__(self, piece: Piece, options: TranscribeOptions, after_secs: float) -> None:
        """`after_secs` is where the last segment of this channel before the call ends."""
        self._piece, self._options = piece, options
        self._timer = Timer(piece, after_secs)

    def segments(self, found: SegmentFound, language: str | None) -> list[Segment]:
        """Return a segment, or its parts where it lies across a pause that was cut out. `language` is what each is to say."""
        most, on_word = self._options.max_segment_chars, self._options.split_on_word
        lines = [
            line for part in self._timer.parts(found) for line in wrapped(part, most, split_on_word=on_word)
        ]
        return [
            Segment(
                index=0,
                start=line.start,
                end=line.end,
                text=(text := "".join(word.text for word in line.words)),
                words=line.words if self._options.words else None,
                channel=self._piece.channel,
                language=language,
                temperature=found.temperature,
                avg_logprob=found.avg_logprob,
                compression_ratio=compression_ratio(text),
                no_speech_prob=self._no_speech(line.start, line.end),
                tokens=line.tokens,
            )
            for line in lines
        ]

    @property
    def left_out(self) -> float | None:
        """Where the voice begins that the last segment has no text for, in seconds of the file."""
        return self._timer.left_out

    def _no_speech(self, start: float, end: float) -> float:
        heard = self._piece.voice.probability(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))
        return round(min(1.0, max(0.0, 1 - heard)), 4)


def compression_ratio(text: str) -> float:
    """Return bytes of a text by bytes of the compressed text, as in OpenAI's own code."""
    raw = text.encode()
    return round(len(raw) / len(zlib.compress(raw)), 4)


def in_order_of_time(found: list[Segment]) -> list[Segment]:
    """Return the segments of several channels as they are published."""
    return sorted(found, key=_place)


def _place(segment: Segment) -> tuple[float, int]:
    return segment.start, segment.channel or 0


class Differs(Exception):
    """What is found is not what was published: another engine, or another version, has begun this portion."""


class Published:
    """The segments of an uncommitted portion that were published before, which are found again in the same order."""

    def __init__(self, published: list[Segment], begin_secs: float) -> None:
        """`begin_secs` is where the portion begins."""
        self._expected = [segment for segment in published if segment.start >= begin_secs]
        self._again = 0

    def __bool__(self) -> bool:
        """Whether any is still to be found."""
        return self._again < len(self._expected)

    def is_again(self, segment: Segment) -> bool:
        """Whether a segment, found in the order of publishing, is published already. Raises Differs."""
        if not self:
            return False
        expected = self._expected[self._again]
        if msgspec.structs.replace(segment, index=expected.index) != expected:
            raise Differs
        self._again += 1
        return True
