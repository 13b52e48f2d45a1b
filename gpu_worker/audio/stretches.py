"""Which parts of a file go to the engine, and in which portions. Pure: probabilities in, stretches out.

A **span** is a piece of the file, (first sample, sample behind the last). A **stretch** is what one call of the engine gets:
spans joined together, two and a half minutes in all at the most. Long pauses lie between spans and are never computed on. A stretch ends in a
pause, or, where nobody pauses, at the quietest moment of its last twenty seconds. The same input always gives the same stretches, so that
a job can be resumed by counting them.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from gpu_worker.pcm import SAMPLE_RATE

WINDOW = 512
"""Samples per speech probability: 32 ms, what Silero VAD gives at 16 kHz."""
FAINT_BY_FLOOR = 5.0
"""A soft beginning stands out from what the detector says of this recording's noise by this factor."""
Span = tuple[int, int]
"""(first sample, sample behind the last)."""


class PlanSettings(msgspec.Struct, kw_only=True, frozen=True):
    """Names that end in `_secs` are seconds; `speech` and `silence` are probabilities."""

    target_secs: float = 150.0
    """The longest stretch."""
    slack_secs: float = 20.0
    """How much shorter a stretch may be for the sake of a pause, and no more than a sixth: each ends with a window that is not full."""
    speech: float = 0.5
    """Speech begins where the probability rises to this value."""
    silence: float = 0.35
    """Speech ends where the probability falls below this value. Both are Silero's own defaults."""
    faint: float = 0.015
    """Speech that begins softly has at least this value; where nobody speaks the probability is lower."""
    reach_secs: float = 0.8
    """How long it may be that faint."""
    min_speech_secs: float = 0.1
    """Shorter speech is taken for a click, and left out."""
    longest_pause_secs: float = 2.0
    """A longer pause is cut out. A shorter one is kept, because it tells whisper where a sentence ends."""
    pad_secs: float = 0.4
    """How much audio around speech is kept, because words begin and end softly."""
    least_pad_secs: float = 0.1
    """How much is kept before the softest beginning."""


Stretch = list[Span]
"""Spans in order of time, which do not overlap."""


def plan(
    activity: NDArray[np.float32], part: Span, settings: PlanSettings, *, skip: bool = True
) -> list[Stretch]:
    """Return the stretches of a part of a file.

    `activity` has the probability of speech of each WINDOW of the file. Where `skip` is False nothing is left out, and `activity`
    only says where a cut does least harm.
    """
    spans = within(speech_spans(activity, part[1], settings), part) if skip else [part]
    target = int(settings.target_secs * SAMPLE_RATE)
    slack = min(int(settings.slack_secs * SAMPLE_RATE), target // 6)
    stretches: list[Stretch] = []
    current: Stretch = []
    for start, end in spans:
        while end - start > target - length(current):
            room = target - length(current)
            if room <= slack:
                stretches.append(current)
                current = []
                continue
            cut = quietest(activity, start + max(room - slack, 1), start + room)
            stretches.append([*current, (start, cut)])
            start, current = cut, []
        current.append((start, end))
    if current:
        stretches.append(current)
    return stretches


def plan_channels(
    activities: list[NDArray[np.float32]], part: Span, settings: PlanSettings, *, skip: bool = True
) -> list[list[Stretch]]:
    """Return the stretches of each channel, cut at the same times: a list with one stretch per channel for each of these times.

    The cuts lie where none of the channels speaks, or where all together are quietest. A stretch is empty where its channel says
    nothing in that time.
    """
    if len(activities) == 1:
        return [[stretch] for stretch in plan(activities[0], part, settings, skip=skip)]
    together: NDArray[np.float32] = np.max(np.stack(activities), axis=0)
    whole = plan(together, part, settings, skip=skip)
    spans = [speech_spans(activity, part[1], settings) if skip else [part] for activity in activities]
    return [
        [within(of_channel, (stretch[0][0], stretch[-1][1])) for of_channel in spans] for stretch in whole
    ]


def within(spans: list[Span], part: Span) -> list[Span]:
    """Return the parts of `spans` that lie in a part of the file."""
    begin, end = part
    return [(max(first, begin), min(last, end)) for first, last in spans if first < end and last > begin]


def speech_spans(activity: NDArray[np.float32], samples: int, settings: PlanSettings) -> list[Span]:
    """Return where there is speech, padded, and joined across pauses up to `longest_pause_secs`."""
    pad, pause = int(settings.pad_secs * SAMPLE_RATE), int(settings.longest_pause_secs * SAMPLE_RATE)
    least = int(settings.least_pad_secs * SAMPLE_RATE)
    shortest = settings.min_speech_secs * SAMPLE_RATE
    spans: list[Span] = []
    sure = runs(activity, settings)
    for (first, last), (soft, _) in zip(sure, with_beginnings(sure, activity, settings), strict=True):
        start, end = first * WINDOW, min(last * WINDOW, samples)
        if end - soft * WINDOW < shortest:
            continue
        joins = bool(spans) and start - (spans[-1][1] - pad) <= pause
        begin = max(0, min(start - pad, soft * WINDOW - least))
        spans.append((spans.pop()[0] if joins else max(begin, spans[-1][1] if spans else 0), end + pad))
    return [(start, min(end, samples)) for start, end in spans]


def runs(activity: NDArray[np.float32], settings: PlanSettings) -> list[Span]:
    """Return runs of windows that begin at `speech` and last until the probability falls below `silence`."""
    decided = np.where(activity >= settings.speech, 1, np.where(activity < settings.silence, 0, -1))
    decided = np.concatenate([[0], decided, [0]])
    known = np.maximum.accumulate(np.where(decided >= 0, np.arange(decided.size), 0))
    edges = np.diff(decided[known])
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))


def with_beginnings(sure: list[Span], activity: NDArray[np.float32], settings: PlanSettings) -> list[Span]:
    """Return runs with the windows before them that are at least `faint`: the detector is late for words that begin softly.

    A run begins earlier by `reach_secs` at the most, and by no more than a third of the pause before it.
    """
    quiet = activity[activity < settings.silence]
    floor = float(np.median(quiet)) if quiet.size else 0.0
    faint = activity >= max(settings.faint, FAINT_BY_FLOOR * floor)
    reach = int(settings.reach_secs * SAMPLE_RATE) // WINDOW
    found: list[Span] = []
    for number, (first, last) in enumerate(sure):
        pause = (first - sure[number - 1][1]) // 3 if number else first
        low = first - min(reach, pause)
        while first > low and faint[first - 1]:
            first -= 1
        found.append((first, last))
    return found


def quietest(activity: NDArray[np.float32], start: int, end: int) -> int:
    """Return the sample between `start` and `end` around which a third of a second is quietest; the last of equals."""
    first, last = -(-start // WINDOW), end // WINDOW
    part = activity[first : last + 1]
    if part.size == 0:
        return end
    smooth = np.convolve(part, np.ones(11, np.float32), mode="same")
    best = part.size - 1 - int(np.argmin(smooth[::-1]))
    return min(max((first + best) * WINDOW, start), end)


def length(stretch: Stretch) -> int:
    """Return the length of a stretch in samples."""
    return sum(end - start for start, end in stretch)


def file_seconds(stretch: Stretch, seconds: float) -> float:
    """Convert a time in the joined stretch to the time in the file, both in seconds. A joint belongs to the piece before it."""
    sample = seconds * SAMPLE_RATE
    for start, end in stretch:
        if sample <= end - start:
            return round((start + sample) / SAMPLE_RATE, 3)
        sample -= end - start
    return round(stretch[-1][1] / SAMPLE_RATE, 3)


def after(stretch: Stretch, seconds: float) -> Stretch:
    """Return what is left of a stretch when everything up to `seconds` of the file is done."""
    done = round(seconds * SAMPLE_RATE)
    return [(max(start, done), end) for start, end in stretch if end > done]
