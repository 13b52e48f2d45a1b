"""Segments between the engine and the event log: their times, their order, and what the engine is told of them. Pure."""

import msgspec

from gpu_worker.audio import stretches
from gpu_worker.audio.plan import Piece
from gpu_worker.audio.stretches import Stretch
from gpu_worker.engine.protocol import SegmentFound
from schemas.jobs import Segment, Word

SHORTEST_SECS = 0.01
"""Least length of a word: whisper.cpp's own unit of time."""
PROMPT_TAIL_CHARS = 200
"""Characters of the text so far that go before the next stretch: about what fits into the engine's context of 64 tokens."""
PROMPT_SEGMENTS = 20
"""The last segments that these characters are taken from."""


def tail(text: str) -> str:
    """Return the last PROMPT_TAIL_CHARS of a text, from the beginning of a word."""
    if len(text) <= PROMPT_TAIL_CHARS:
        return text
    cut = text[-PROMPT_TAIL_CHARS:]
    return cut[cut.find(" ") :] if " " in cut else cut


def prompt(asked: str, so_far: str) -> str:
    """Return the prompt of a stretch: the user's prompt and the end of the text so far.

    It begins with a space, as in OpenAI's own code: without one the first word is split into tokens that whisper has never
    seen at the beginning of a text.
    """
    text = " ".join(f"{asked}{tail(so_far)}".split())
    return f" {text}" if text else ""


def in_order_of_time(found: list[Segment], last: Segment | None) -> list[Segment]:
    """Return the segments of several channels as they are published. `last` is the last one that is published already."""
    left = [segment for segment in found if last is None or _place(segment) > _place(last)]
    return sorted(left, key=_place)


def _place(segment: Segment) -> tuple[float, int]:
    return segment.start, segment.channel or 0


def found(reply: SegmentFound, piece: Piece) -> Segment:
    """Return a segment with the times of the file. Its index is given when it is published."""
    stretch = piece.stretch
    start = stretches.file_seconds(stretch, reply.start, is_end=False)
    end = stretches.file_seconds(stretch, reply.end, is_end=True)
    words = reply.words
    if words is not None:
        end = max(end, round(start + len(words) * SHORTEST_SECS, 3))
        words = in_order([_in_file(word, stretch) for word in words], start, end)
    return Segment(index=0, start=start, end=end, text=reply.text, words=words, channel=piece.channel)


def in_order(words: list[Word], start: float, end: float) -> list[Word]:
    """Return the words of a segment with times that follow each other inside it; none is shorter than SHORTEST_SECS.

    whisper.cpp guesses the times of tokens. A word may end before it begins, have no length, or lie outside its segment.
    """
    found, after = list[Word](), start
    for number, word in enumerate(words):
        room = (len(words) - number) * SHORTEST_SECS
        begin = min(max(word.start, after), end - room)
        after = min(max(word.end, begin + SHORTEST_SECS), end - room + SHORTEST_SECS)
        found.append(msgspec.structs.replace(word, start=round(begin, 3), end=round(after, 3)))
    return found


def _in_file(word: Word, stretch: Stretch) -> Word:
    return Word(
        start=stretches.file_seconds(stretch, word.start, is_end=False),
        end=stretches.file_seconds(stretch, word.end, is_end=True),
        text=word.text,
        probability=word.probability,
    )
