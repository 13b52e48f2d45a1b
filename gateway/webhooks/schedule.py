"""What becomes of a delivery after an attempt, and when the next attempt is made. Pure.

The attempts of the first delivery of a queue are counted in the state of the queue (schemas.webhooks.QueueState), so that the
count survives the death of a gateway.
"""

import msgspec

BACKOFF_SECS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each attempt after the first."""
GONE = 410
"""The HTTP status with which a receiver unregisters its URL."""


class Delivered(msgspec.Struct, frozen=True):
    """The receiver has taken it."""


class TryAgain(msgspec.Struct, frozen=True):
    """Another attempt follows after this delay."""

    delay_secs: float


class GiveUp(msgspec.Struct, frozen=True):
    """All attempts have failed: it becomes a dead letter."""


class Drop(msgspec.Struct, frozen=True):
    """It has failed and was worth one attempt only, as progress is."""


class Unregister(msgspec.Struct, frozen=True):
    """The receiver has answered that it is gone for good."""


Decision = Delivered | TryAgain | GiveUp | Drop | Unregister


def parse_backoff(text: str) -> tuple[float, ...]:
    """Return the delays that a text such as `1,2,4,8,16` names, in seconds. Empty means one attempt. Raises ValueError."""
    delays = tuple(float(part) for part in text.split(",") if part.strip())
    if any(not 0 <= delay <= 24 * 3600 for delay in delays):
        raise ValueError("each delay must be between 0 seconds and a day")
    return delays


def after_try(
    number: int, status: int | None, backoff_secs: tuple[float, ...], *, once: bool = False
) -> Decision:
    """Decide after attempt `number`, which is 1-based.

    `status` is the HTTP status of the answer, or None where there was none. With `once` no further attempt is made.
    """
    if status is not None and 200 <= status < 300:
        return Delivered()
    if status == GONE:
        return Unregister()
    if once:
        return Drop()
    return TryAgain(backoff_secs[number - 1]) if number <= len(backoff_secs) else GiveUp()
