"""Which parts of a file go to the engine, and in which portions. Pure: probabilities in, stretches out.

A **span** is a piece of the file, (first sample, sample behind the last). A **stretch** is what one call of the engine gets:
spans joined together, about two minutes in all. Long pauses lie between spans and are never computed on. A stretch ends in a
pause, or, where nobody pauses, at the quietest moment of its second half. The same input always gives the same stretches, so that
a job can be resumed by counting them.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from gpu_worker.pcm import SAMPLE_RATE

WINDOW = 512
"""Samples per speech probability: 32 ms, what Silero VAD gives at 16 kHz."""
Span = tuple[int, int]
"""(first sample, sample behind the last)."""


class PlanSettings(msgspec.Struct, kw_only=True, frozen=True):
    """Names that end in `_secs` are seconds; `speech` and `silence` are probabilities."""

    target_secs: float = 120.0
    """The longest stretch."""
    speech: float = 0.5
    """Speech begins where the probability rises to this value."""
    silence: float = 0.35
    """Speech ends where the probability falls below this value. Both are Silero's own defaults."""
    min_speech_secs: float = 0.1
    """Shorter speech is taken for a click, and left out."""
    longest_pause_secs: float = 2.0
    """A longer pause is cut out. A shorter one is kept, because it tells whisper where a sentence ends."""
    pad_secs: float = 0.4
    """How much audio around speech is kept, because words begin and end softly."""


Stretch = list[Span]
"""Spans in order of time, which do not overlap."""


def plan(
    activity: NDArray[np.float32], samples: int, settings: PlanSettings, *, skip: bool = True
) -> list[Stretch]:
    """Return the stretches of a file of `samples` samples.

    `activity` has one value per WINDOW: the probability of speech, or the loudness where `skip` is False. Then nothing is left
    out, and `activity` only says where a cut does least harm.
    """
    spans = speech_spans(activity, samples, settings) if skip else ([(0, samples)] if samples else [])
    target = int(settings.target_secs * SAMPLE_RATE)
    stretches: list[Stretch] = []
    current: Stretch = []
    for start, end in spans:
        while end - start > target - length(current):
            room = target - length(current)
            if length(current) >= target // 2:
                stretches.append(current)
                current = []
                continue
            cut = quietest(activity, start + max(room // 2, 1), start + room)
            stretches.append([*current, (start, cut)])
            start, current = cut, []
        current.append((start, end))
    if current:
        stretches.append(current)
    return stretches


def plan_channels(
    activities: list[NDArray[np.float32]], samples: int, settings: PlanSettings, *, skip: bool = True
) -> list[list[Stretch]]:
    """Return the stretches of each channel, cut at the same times: a list with one stretch per channel for each of these times.

    The cuts lie where none of the channels speaks, or where all together are quietest. A stretch is empty where its channel says
    nothing in that time.
    """
    if len(activities) == 1:
        return [[stretch] for stretch in plan(activities[0], samples, settings, skip=skip)]
    together: NDArray[np.float32] = np.max(np.stack(activities), axis=0)
    whole = plan(together, samples, settings, skip=skip)
    spans = [speech_spans(activity, samples, settings) if skip else [(0, samples)] for activity in activities]
    return [[_within(stretch, of_channel) for of_channel in spans] for stretch in whole]


def _within(stretch: Stretch, spans: list[Span]) -> Stretch:
    """Return the parts of `spans` that lie in the time of a stretch."""
    begin, end = stretch[0][0], stretch[-1][1]
    return [(max(first, begin), min(last, end)) for first, last in spans if first < end and last > begin]


def speech_spans(activity: NDArray[np.float32], samples: int, settings: PlanSettings) -> list[Span]:
    """Return where there is speech, padded, and joined across pauses up to `longest_pause_secs`."""
    pad, pause = int(settings.pad_secs * SAMPLE_RATE), int(settings.longest_pause_secs * SAMPLE_RATE)
    shortest = settings.min_speech_secs * SAMPLE_RATE
    spans: list[Span] = []
    for first, last in _hysteresis(activity, settings):
        start, end = first * WINDOW, min(last * WINDOW, samples)
        if end - start < shortest:
            continue
        joins = bool(spans) and start - (spans[-1][1] - pad) <= pause
        spans.append((spans.pop()[0] if joins else max(0, start - pad), end + pad))
    return [(start, min(end, samples)) for start, end in spans]


def _hysteresis(activity: NDArray[np.float32], settings: PlanSettings) -> list[Span]:
    """Return runs of windows that begin at `speech` and last until the probability falls below `silence`."""
    decided = np.where(activity >= settings.speech, 1, np.where(activity < settings.silence, 0, -1))
    decided = np.concatenate([[0], decided, [0]])
    known = np.maximum.accumulate(np.where(decided >= 0, np.arange(decided.size), 0))
    edges = np.diff(decided[known])
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))


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


def file_seconds(stretch: Stretch, seconds: float, *, is_end: bool) -> float:
    """Convert a time in the joined stretch to the time in the file, both in seconds.

    At a joint, an end belongs to the piece before it, and a start to the piece behind it.
    """
    sample = seconds * SAMPLE_RATE
    for start, end in stretch:
        size = end - start
        if sample < size or (is_end and sample <= size):
            return round((start + sample) / SAMPLE_RATE, 3)
        sample -= size
    return round(stretch[-1][1] / SAMPLE_RATE, 3)


def after(stretch: Stretch, seconds: float) -> Stretch:
    """Return what is left of a stretch when everything up to `seconds` of the file is done."""
    done = round(seconds * SAMPLE_RATE)
    return [(max(start, done), end) for start, end in stretch if end > done]
