"""Which words are spoken in which stretch of voice. Pure.

A segment's words are spread over the islands of voice in its time. People speak about evenly, so that an island has about as much
text as its length allows, and they pause where a sentence or a clause ends. That finds the word behind a pause more surely than
whisper.cpp's times of tokens, which are a guess between two time stamps.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

WIDE = 0x2E80
"""Characters from here on are spoken as long as two others: syllables and words of East Asia."""
SENTENCE, CLAUSE = ".?!…\u3002\uff1f\uff01\u061f\u0964", ",;:—\u3001\uff0c\uff1b\uff1a"
"""What sentences and clauses end with; Chinese, Japanese, Arabic and Hindi marks by their code points."""
QUOTES = "\"'”»)\u2019\u300d\u300f"
TITLES = frozenset(
    {"mr.", "mrs.", "ms.", "dr.", "st.", "prof.", "vs.", "no.", "herr.", "fr.", "m.", "mme.", "sr.", "sra."}
)
"""Abbreviations that a name or a number follows: no sentence ends with them."""
BEHIND_CLAUSE, BEHIND_WORD = (0.1, 0.5), (0.6, 1.0)
"""What a pause costs behind a clause and behind any other word, in seconds of voice: always, and for each second of it."""
LONGEST_SECS = 3.0
"""A longer pause costs no more."""


def weight(text: str) -> int:
    """Return how long a word takes to say, by its characters."""
    return 1 + sum(2 if ord(character) >= WIDE else 1 for character in text.strip())


def spread(words: Sequence[str], islands: Sequence[float], pauses: Sequence[float]) -> list[int]:
    """Return the number of the island of each word; the numbers never fall.

    `islands` are lengths in seconds, at least one, and `pauses` the seconds behind each but the last. The cost of an island is the
    seconds by which its text is longer or shorter than its voice. The cost of the pause behind it depends on what the last word
    ends with.
    """
    sums = [0.0, *accumulate(float(weight(word)) for word in words)]
    rate = sum(islands) / sums[-1] if sums[-1] else 0.0
    count = len(words)
    costs, ways = [0.0] + [math.inf] * count, list[list[int]]()
    for number, secs in enumerate(islands):
        is_last = number == len(islands) - 1
        row, way = [math.inf] * (count + 1), [0] * (count + 1)
        for end in [count] if is_last else range(count + 1):
            pause = 0.0 if is_last or end == 0 else _cost_of_pause(words[end - 1], pauses[number])
            for begin in range(end + 1):
                cost = (
                    costs[begin]
                    + abs((sums[end] - sums[begin]) * rate - secs)
                    + (pause if end > begin else 0.0)
                )
                if cost < row[end]:
                    row[end], way[end] = cost, begin
        costs = row
        ways.append(way)
    return _numbers(ways, count)


def _numbers(ways: list[list[int]], count: int) -> list[int]:
    ends = [count]
    for way in reversed(ways):
        ends.append(way[ends[-1]])
    ends.reverse()
    return [number for number, (begin, end) in enumerate(pairwise(ends)) for _ in range(end - begin)]


def _cost_of_pause(word: str, secs: float) -> float:
    last = word.rstrip().rstrip(QUOTES)[-1:]
    if last and last in SENTENCE and word.strip().lower() not in TITLES:
        return 0.0
    always, each_second = BEHIND_CLAUSE if last and last in CLAUSE else BEHIND_WORD
    return always + each_second * min(secs, LONGEST_SECS)
