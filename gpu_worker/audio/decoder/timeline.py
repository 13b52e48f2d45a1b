"""Where decoded audio lies on the clock that a player shows. Pure: time stamps in, positions out.

Recordings have holes: a phone that was on hold, a recorder that paused, packets that a network lost, a track that begins after the
picture. A player shows the time of the container, so silence is put where the container has none. Small irregularities are no holes:
time stamps are rounded, and encoders are late.
"""

import math

HOLE_SECS = 0.1
"""A step of the time stamps up to this is rounding, as in FFmpeg (its option `min_hard_comp`)."""
STEP_BACK_SECS = 1.0
"""Time stamps that step back further than this begin a new count, as after a restart of a sender."""
ABSOLUTE = frozenset({"mov", "matroska", "avi", "nut", "mxf", "webm"})
"""Containers whose clock begins at 0 wherever their first packet is. The clock of the others begins with their first packet."""


def origin_secs(container: str, start_secs: float | None) -> float:
    """Return the time stamp that a player shows as 0:00. `start_secs` is the earliest one of the file."""
    if start_secs is None or (container in ABSOLUTE and start_secs > 0):
        return 0.0
    return start_secs


class Timeline:
    """Says for each frame how much silence goes before it."""

    def __init__(self, origin: float, end_secs: float | None) -> None:
        """`origin` is the time stamp of 0:00. `end_secs` is where the container says that it ends, from 0:00; None if unknown."""
        self._shift = -origin
        self._end = math.inf if end_secs is None else end_secs + HOLE_SECS
        self.cursor = 0.0
        """Where the next sample goes if there is no hole, in seconds."""

    def silence_before(self, stamp: float | None) -> float:
        """Return the seconds of silence before a frame with this time stamp; negative where its beginning lies before 0:00.

        `stamp` is None where the frame has none: it goes where the last one has ended.
        """
        if stamp is None:
            return 0.0
        at = stamp + self._shift
        step = at - self.cursor
        if -HOLE_SECS <= step <= HOLE_SECS and self.cursor > 0:
            return 0.0
        if not math.isfinite(stamp):
            return 0.0
        if self.cursor == 0 and at < 0:
            return at
        if step < -STEP_BACK_SECS or (step > HOLE_SECS and at > self._end):
            # The count has begun again, or jumps to where the container has nothing: it goes on without a hole.
            self._shift -= step
            return 0.0
        return step if step > HOLE_SECS else 0.0

    def advance(self, secs: float) -> None:
        """Say that so many seconds of silence or sound have been put behind the cursor."""
        self.cursor += secs
