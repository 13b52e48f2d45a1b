"""Segments of a few characters. Pure.

whisper.cpp can wrap segments itself, by its guess when a token is spoken. Here the words have the times of the voice already.
"""

from collections.abc import Iterator

import msgspec

from gpu_worker.engine.protocol import HeardWord
from gpu_worker.job.times import Part
from schemas.jobs import Word


class Fragment(msgspec.Struct, frozen=True):
    """A word, or one token of it."""

    number: int
    """Of its word in the segment."""
    word: Word
    tokens: list[int]


class Line(msgspec.Struct, frozen=True):
    """What becomes a segment. Times are seconds of the file."""

    start: float
    end: float
    words: list[Word]
    tokens: list[int]


def wrapped(part: Part, most_chars: int, *, split_on_word: bool) -> list[Line]:
    """Return a part in lines of at most `most_chars` characters, without the spaces around them; 0 is no limit.

    A word, or without `split_on_word` a token, that is longer stands by itself.
    """
    lines: list[list[Fragment]] = []
    text = ""
    for fragment in _fragments(part, split_on_word or most_chars == 0):
        if not lines or (most_chars and len((text + fragment.word.text).strip()) > most_chars):
            lines.append([])
            text = ""
        lines[-1].append(fragment)
        text += fragment.word.text
    return [
        Line(
            start=part.start if number == 0 else line[0].word.start,
            end=part.end if number == len(lines) - 1 else line[-1].word.end,
            words=_joined(line),
            tokens=[token for fragment in line for token in fragment.tokens],
        )
        for number, line in enumerate(lines)
    ]


def _fragments(part: Part, whole: bool) -> Iterator[Fragment]:
    for number, (word, heard) in enumerate(zip(part.words, part.heard, strict=True)):
        if whole or len(heard.pieces) < 2:
            yield Fragment(number, word, heard.tokens)
        else:
            yield from _tokens_of(number, word, heard)


def _tokens_of(number: int, word: Word, heard: HeardWord) -> Iterator[Fragment]:
    """Yield the tokens of a word that have a text, with the time of the word shared by their characters."""
    length, at, ids = word.end - word.start, 0, list[int]()
    total = max(1, len(word.text))
    for token, piece in zip(heard.tokens, heard.pieces, strict=True):
        ids.append(token)
        if not piece:
            continue
        begin, at = at, at + len(piece)
        start, end = (round(word.start + length * place / total, 3) for place in (begin, at))
        yield Fragment(number, msgspec.structs.replace(word, start=start, end=end, text=piece), ids)
        ids = []


def _joined(line: list[Fragment]) -> list[Word]:
    """Return the words of a line: what is left of one in it is one word."""
    words: list[tuple[int, Word]] = []
    for fragment in line:
        if words and words[-1][0] == fragment.number:
            last = words[-1][1]
            text = last.text + fragment.word.text
            words[-1] = fragment.number, msgspec.structs.replace(last, end=fragment.word.end, text=text)
        else:
            words.append((fragment.number, fragment.word))
    return [word for _, word in words]
