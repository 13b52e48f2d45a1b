"""When a delivery is tried, and what becomes of it after a try. Pure.

The tries of the first in line are counted in the state of its queue (QueueState), so that the count does not depend on how
often a gateway died over it.
"""

import msgspec

BACKOFF_SECS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""How long to wait before each try after the first."""
GONE = 410


class Delivered(msgspec.Struct, frozen=True):
    pass


class TryAgain(msgspec.Struct, frozen=True):
    delay_secs: float


class GiveUp(msgspec.Struct, frozen=True):
    pass


class Drop(msgspec.Struct, frozen=True):
    """It was worth one try and no more."""


class Unregister(msgspec.Struct, frozen=True):
    """The receiver says that it is gone for good."""


Decision = Delivered | TryAgain | GiveUp | Drop | Unregister


def parse_backoff(text: str) -> tuple[float, ...]:
    """`1,2,4,8,16`: seconds; empty: one try and no more. Raises ValueError."""
    delays = tuple(float(part) for part in text.split(",") if part.strip())
    if any(not 0 <= delay <= 24 * 3600 for delay in delays):
        raise ValueError("each delay must be between 0 seconds and a day")
    return delays


def after_try(
    number: int, status: int | None, backoff_secs: tuple[float, ...], *, once: bool = False
) -> Decision:
    """`number` of this try, from 1; `status` of the answer, None where there was none; `once`: it is not tried again."""
    if status is not None and 200 <= status < 300:
        return Delivered()
    if status == GONE:
        return Unregister()
    if once:
        return Drop()
    return TryAgain(backoff_secs[number - 1]) if number <= len(backoff_secs) else GiveUp()
