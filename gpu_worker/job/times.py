"""The times of what the engine has heard: from the joined pieces to the file, and onto the voice. Pure.

whisper's own times are good to a few tenths of a second inside a phrase. It knows nothing of the pauses that were cut out, and lets a
segment last from the end of the one before it to the beginning of the next one. The voice detector knows when somebody speaks to a few
hundredths. So the words of a segment are spread over the islands of voice in its time (alignment.py), and a segment that lies across
a joint is taken apart there.
"""

from itertools import groupby, pairwise

import msgspec

from gpu_worker.audio.plan import Piece
from gpu_worker.engine.protocol import HeardWord, SegmentFound
from gpu_worker.job.alignment import spread, weight
from gpu_worker.pcm import SAMPLE_RATE
from schemas.jobs import Word

SHORTEST_SECS = 0.01
"""Least length of a word: whisper.cpp's own unit of time."""
LATE = int(0.3 * SAMPLE_RATE)
"""So far whisper's times may be off: voice up to this belongs to the neighbour, where a pause of at least PAUSE lies between."""
PAUSE = int(0.15 * SAMPLE_RATE)
"""A shorter gap is none: plosives, breath, and the detector's own doubt."""
LEAD = int(0.1 * SAMPLE_RATE)
"""A segment begins so much before its voice and ends so much behind it, where there is room: sounds begin and end softly."""
REACH = int(1.0 * SAMPLE_RATE)
"""How far the beginning of a segment is moved to the beginning of the voice that it begins in."""


SLOWEST_SECS = 0.16
"""For one character: twice as slow as people speak who speak slowly."""
LEFT_OUT_SECS, SURE = 4.0, 0.6
"""Voice that has no text, from this length on and this sure, has been left out."""


class Part(msgspec.Struct, frozen=True):
    """A segment, or the part of one that lies in one piece of the file. Times are seconds of the file."""

    start: float
    end: float
    words: list[Word]
    heard: list[HeardWord]
    """The same words, as the engine has found them."""


class Island(msgspec.Struct):
    """Voice without a pause, inside one piece. Positions are samples of the file."""

    piece: int
    first: int
    last: int


class Timer:
    """Gives the segments of one call their times, in order."""

    def __init__(self, piece: Piece, after_secs: float) -> None:
        """`after_secs` is where the last segment before this call ends."""
        self._stretch, self._voice = piece.stretch, piece.voice
        self._after = round(after_secs * SAMPLE_RATE)
        self.left_out: float | None = None
        """Where in the file the voice begins that has no text, in seconds; None where all has."""

    def parts(self, found: SegmentFound) -> list[Part]:
        """Return a segment in the file, in order of time. Each part has words, and joined they are the text."""
        islands = self._spoken(found, self._islands(found))
        lengths = [(island.last - island.first) / SAMPLE_RATE for island in islands]
        pauses = [(behind.first - island.last) / SAMPLE_RATE for island, behind in pairwise(islands)]
        numbers = spread([word.text for word in found.words], lengths, pauses)
        words = list(zip(numbers, found.words, strict=True))
        parts = []
        for _, of_piece in groupby(words, key=lambda pair: islands[pair[0]].piece):
            parts.append(self._part(list(of_piece), islands))
        return parts

    def _islands(self, found: SegmentFound) -> list[Island]:
        """Return the voice in the time of a segment; where there is none, the time itself."""
        begin, end = (round(at * SAMPLE_RATE) for at in (found.start, found.end))
        islands, silent = list[Island](), list[Island]()
        joined = 0
        for number, (start, stop) in enumerate(self._stretch):
            first, last = start + begin - joined, start + end - joined
            joined += stop - start
            if last <= start or first >= stop:
                continue
            silent.append(Island(number, max(first, start), min(last, stop)))
            earliest = max(start, min(first, self._after), first - REACH)
            for a, b in self._voice.between(earliest, min(stop, last + LATE)):
                if b <= first and first > start:
                    continue  # It has ended before.
                islands.append(Island(number, a, b))
        islands = _without_neighbours(_merged(islands), *self._in_file(begin, end))
        if islands:
            return islands
        # Nobody speaks, the detector says: it is where most of it is.
        return [max(silent, key=lambda island: island.last - island.first)] if silent else [self._nowhere()]

    def _spoken(self, found: SegmentFound, islands: list[Island]) -> list[Island]:
        """Return the islands that a segment's text can be about, and note where it leaves voice out.

        whisper sometimes jumps: a short sentence, and a time stamp many seconds later.
        """
        secs = sum(weight(word.text) for word in found.words) * SLOWEST_SECS
        kept = 1
        while kept < len(islands) and _voice_secs(islands[: kept + 1]) <= secs:
            kept += 1
        rest = islands[kept:]
        if _voice_secs(rest) < LEFT_OUT_SECS or any(
            self._voice.probability(island.first, island.last) < SURE for island in rest[:1]
        ):
            self.left_out = None
            return islands
        self.left_out = max(islands[kept - 1].last, rest[0].first - 2 * LEAD) / SAMPLE_RATE
        return islands[:kept]

    def _nowhere(self) -> Island:
        number = len(self._stretch) - 1
        return Island(number, self._stretch[-1][1], self._stretch[-1][1])

    def _in_file(self, begin: int, end: int) -> tuple[int, int]:
        """Return the samples of the file at two samples of the joined pieces."""
        found = []
        for at in (begin, end):
            left = at
            for start, stop in self._stretch:
                if left <= stop - start:
                    break
                left -= stop - start
            found.append(min(start + left, stop))
        return found[0], found[1]

    def _part(self, pairs: list[tuple[int, HeardWord]], islands: list[Island]) -> Part:
        words = list[Word]()
        for number, group in groupby(pairs, key=lambda pair: pair[0]):
            words += _in_island([word for _, word in group], islands[number])
        first, last = self._with_air(islands[pairs[0][0]], islands[pairs[-1][0]])
        start = round(first / SAMPLE_RATE, 3)
        end = max(round(last / SAMPLE_RATE, 3), round(start + len(words) * SHORTEST_SECS, 3))
        self._after = round(end * SAMPLE_RATE)
        return Part(start, end, in_order(words, start, end), [word for _, word in pairs])

    def _with_air(self, begin: Island, end: Island) -> tuple[int, int]:
        """Return from where to where a part lasts that has these islands first and last."""
        start, stop = self._stretch[begin.piece][0], self._stretch[end.piece][1]
        first = max(start, min(self._after, begin.last), begin.first - LEAD)
        behind = self._voice.between(end.last, min(stop, end.last + 2 * LEAD))
        room = (behind[0][0] - end.last) // 2 if behind else LEAD
        return first, max(first, min(stop, end.last + min(LEAD, room)))


def _voice_secs(islands: list[Island]) -> float:
    return sum(island.last - island.first for island in islands) / SAMPLE_RATE


def _merged(islands: list[Island]) -> list[Island]:
    """Return islands with at least PAUSE between those of the same piece."""
    found = list[Island]()
    for island in islands:
        if found and found[-1].piece == island.piece and island.first - found[-1].last < PAUSE:
            found[-1].last = island.last
        else:
            found.append(island)
    return found


def _without_neighbours(islands: list[Island], first: int, last: int) -> list[Island]:
    """Leave out what belongs to the segment before or behind one that lasts from `first` to `last`."""
    if len(islands) > 1 and islands[0].first < first and islands[0].last - first <= LATE:
        islands = islands[1:]
    if len(islands) > 1 and islands[-1].last > last and last - islands[-1].first <= LATE:
        islands = islands[:-1]
    return islands


def _in_island(words: list[HeardWord], island: Island) -> list[Word]:
    """Return words spread evenly over an island."""
    total = sum(weight(word.text) for word in words)
    length, at = island.last - island.first, 0
    found = []
    for word in words:
        begin, at = at, at + weight(word.text)
        found.append(
            Word(
                start=(island.first + length * begin / total) / SAMPLE_RATE,
                end=(island.first + length * at / total) / SAMPLE_RATE,
                text=word.text,
                probability=word.probability,
            )
        )
    return found


def in_order(words: list[Word], start: float, end: float) -> list[Word]:
    """Return the words of a segment with times that follow each other inside it; none is shorter than SHORTEST_SECS."""
    found, after = list[Word](), start
    for number, word in enumerate(words):
        room = (len(words) - number) * SHORTEST_SECS
        begin = min(max(word.start, after), end - room)
        after = min(max(word.end, begin + SHORTEST_SECS), end - room + SHORTEST_SECS)
        found.append(msgspec.structs.replace(word, start=round(begin, 3), end=round(after, 3)))
    return found
