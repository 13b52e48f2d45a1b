"""Where somebody speaks, as exactly as the voice detector knows it. Pure."""

import numpy as np
from numpy.typing import NDArray

from gpu_worker.audio.stretches import WINDOW, PlanSettings, Span, runs, with_beginnings


class Voice:
    """The voice on one channel of a file. All positions are samples of the file."""

    def __init__(self, activity: NDArray[np.float32], settings: PlanSettings) -> None:
        """`activity` is the probability of speech of each WINDOW."""
        self._activity = activity
        voiced = with_beginnings(runs(activity, settings), activity, settings)
        edges = np.array(voiced, np.int64).reshape(-1, 2) * WINDOW
        self._starts, self._ends = edges[:, 0], edges[:, 1]

    def between(self, first: int, last: int) -> list[Span]:
        """Return the parts of `first` to `last` in which somebody speaks."""
        begin = int(np.searchsorted(self._ends, first, side="right"))
        end = int(np.searchsorted(self._starts, last, side="left"))
        return [
            (max(first, int(self._starts[n])), min(last, int(self._ends[n])))
            for n in range(begin, max(begin, end))
        ]

    def probability(self, first: int, last: int) -> float:
        """Return the mean probability of speech, 0 to 1."""
        part = self._activity[first // WINDOW : -(-last // WINDOW)]
        return float(part.mean()) if part.size else 0.0
