"""Whether a recording rumbles, and how much each part of it is raised, so that the voice detector and the engine hear it. Pure.

Silero hears nothing below about -50 dB, and whisper's spectrogram has a floor. A recording of normal level is not touched, so that
nothing can become worse. The gain follows the recording in parts of ten seconds, because one speaker may sit far away, but by little:
the noise of a pause must not become as loud as speech.
"""

import numpy as np
from numpy.typing import NDArray

WINDOW = 512
"""Samples of one measurement: 32 ms."""
PART = 312
"""Windows of one part: 10 s."""
SLOW = 128
"""Samples over which a mean is taken: what moves more slowly than about 60 Hz is left."""
RUMBLE_HZ = 80
"""Where the high-pass begins, which takes 51 dB off at 30 Hz and 5 at 100: below the lowest voices."""
RUMBLE_SHARE = 0.16
"""-8 dB. Clean speech and music have at most -10 dB of their energy below the voice (docs/evidence/level.md)."""
LOUD_PERCENTILE = 95.0
"""The level of a part is that of its loud windows: speech is loud for some of the time."""
SILENCE_DB = -90.0
"""Below this there is no sound: the last bit of 16."""
NOTHING_DB = -200.0
"""The level of digital silence."""
LOWEST_DB, HIGHEST_DB = -35.0, 0.0
"""Levels between these are left as they are. Speech of a normal recording is around -20 dB."""
TARGET_DB = -20.0
"""What every other level becomes."""
MAX_GAIN_DB = 70.0
FOLLOW_DB = 15.0
"""How far the gain of a part may be from that of the whole recording."""
QUIET_DB = -45.0
"""A recording below this is called quiet."""


_MEAN = np.full(SLOW, 1 / SLOW, np.float32)


class Loudness:
    """Measures what is written to a file."""

    def __init__(self) -> None:
        self._levels: list[tuple[int, NDArray[np.float32]]] = []
        self._low = self._all = 0.0
        """Energy of slow movements, and of everything."""

    def add(self, begin: int, samples: NDArray[np.float32]) -> None:
        """Measure samples that begin at this place of the file."""
        windows = np.pad(samples, (0, -samples.size % WINDOW)).reshape(-1, WINDOW)
        squares = np.einsum("ij,ij->i", windows, windows)
        slow = windows.reshape(-1, SLOW) @ _MEAN
        self._low += float(slow @ slow) * SLOW
        self._all += float(squares.sum())
        levels = 10 * np.log10(np.maximum(squares / WINDOW, 10 ** (NOTHING_DB / 10)))
        self._levels.append((begin // WINDOW, levels.astype(np.float32)))

    @property
    def rumbles(self) -> bool:
        """Whether slow movements are so strong that they would hide speech: direct current, rumble, hum."""
        return self._low > RUMBLE_SHARE * self._all

    def levels(self, samples: int) -> NDArray[np.float32]:
        """Return the level of each window of a file of this length, in dB of full scale; NOTHING_DB for holes."""
        whole = np.full(-(-samples // WINDOW), NOTHING_DB, np.float32)
        for begin, levels in self._levels:
            here = whole[begin : begin + levels.size]
            here[:] = levels[: here.size]
        return whole


def loud(levels: NDArray[np.float32]) -> float | None:
    """Return the level of the loud windows in dB; None where there is no sound. Holes count for nothing."""
    sounding = levels[levels > SILENCE_DB]
    return float(np.percentile(sounding, LOUD_PERCENTILE)) if sounding.size else None


def wanted(level: float | None) -> float:
    """Return the gain in dB that a level needs; 0 where it is good as it is."""
    if level is None or LOWEST_DB <= level <= HIGHEST_DB:
        return 0.0
    return min(TARGET_DB - level, MAX_GAIN_DB)


def gains(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the gain in dB of each window of a recording, from the level of each."""
    whole = wanted(loud(levels))
    parts = [levels[begin : begin + PART] for begin in range(0, levels.size, PART)]
    of_parts = [_gain_of_part(loud(part), whole) for part in parts]
    if not any(of_parts):
        return np.zeros(levels.size, np.float32)
    centres = [(begin + 0.5) * PART for begin in range(len(parts))]
    return np.interp(np.arange(levels.size), centres, of_parts).astype(np.float32)


def _gain_of_part(level: float | None, whole: float) -> float:
    if level is None:
        return whole
    return float(np.clip(wanted(level), whole - FOLLOW_DB, whole + FOLLOW_DB))
