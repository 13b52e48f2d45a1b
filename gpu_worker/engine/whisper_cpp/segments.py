"""Segments and words of a `whisper_full` call, read through whisper.cpp's C API."""

import codecs
from typing import Any

from gpu_worker.engine.protocol import SegmentFound
from gpu_worker.engine.whisper_cpp.binding import pw
from schemas.jobs import Word


class SegmentReader:
    """Reads the segments of one call in order.

    whisper.cpp may split a character of several bytes over two segments; its bytes then belong to the second one.
    """

    def __init__(self, context: Any, seconds: float, words: bool) -> None:
        """`seconds` is the true length of the audio: whisper.cpp gives times behind it, which are cut to it."""
        self._context, self._seconds, self._words = context, seconds, words
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._first_special_token = pw.whisper_token_eot(context)

    def read(self, index: int) -> SegmentFound:
        """Return segment `index`, with times in seconds from the start of the audio."""
        text = self._decoder.decode(pw.whisper_full_get_segment_text(self._context, index))
        start = self._to_seconds(pw.whisper_full_get_segment_t0(self._context, index))
        end = max(start, self._to_seconds(pw.whisper_full_get_segment_t1(self._context, index)))
        words = self._read_words(index) if self._words else None
        return SegmentFound(start=start, end=end, text=text, words=words)

    def _read_words(self, index: int) -> list[Word]:
        """Group tokens to words: a word ends before the next token that begins with a space."""
        groups: list[list[Any]] = []
        for number in range(pw.whisper_full_n_tokens(self._context, index)):
            token = pw.whisper_full_get_token_data(self._context, index, number)
            if token.id >= self._first_special_token:
                continue
            piece = bytes(pw.whisper_token_to_bytes(self._context, token.id))
            if not groups or piece.startswith(b" "):
                groups.append([])
            groups[-1].append((token, piece))
        return [
            Word(
                start=self._to_seconds(group[0][0].t0),
                end=self._to_seconds(group[-1][0].t1),
                text=b"".join(piece for _, piece in group).decode("utf-8", "replace"),
                probability=round(min(token.p for token, _ in group), 4),
            )
            for group in groups
        ]

    def _to_seconds(self, centiseconds: int) -> float:
        return float(round(min(max(0.0, centiseconds / 100), self._seconds), 3))
