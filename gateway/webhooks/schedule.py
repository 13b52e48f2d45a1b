"""What becomes of a delivery after a try. Pure: the answer and the number of the try in, what to do out."""

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


class Unregister(msgspec.Struct, frozen=True):
    """The receiver says that it is gone for good."""


Decision = Delivered | TryAgain | GiveUp | Unregister


def after_try(number: int, status: int | None, backoff_secs: tuple[float, ...] = BACKOFF_SECS) -> Decision:
    """`number` of this try, from 1; `status` of the answer, None where there was none."""
    if status is not None and 200 <= status < 300:
        return Delivered()
    if status == GONE:
        return Unregister()
    return TryAgain(backoff_secs[number - 1]) if number <= len(backoff_secs) else GiveUp()
