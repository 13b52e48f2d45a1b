"""What a stream keeps, as objects: what cannot be used is left out, and the log says so once."""

import logging
from collections.abc import Callable
from typing import TypeVar

from schemas.inputs import Unreadable

log = logging.getLogger(__name__)

COMPLAINTS = 1000
"""So many unusable messages are remembered, so that each is told of once and not at every look."""

T = TypeVar("T")

_told: dict[tuple[str, int], None] = {}


def usable(read: Callable[[bytes], T], subject: str, seq: int, body: bytes) -> T | None:
    """What `read` (schemas/inputs.py) makes of the message; None, and a line of log, where it is Unreadable."""
    try:
        return read(body)
    except Unreadable as error:
        if (subject, seq) not in _told:
            if len(_told) >= COMPLAINTS:
                del _told[next(iter(_told))]
            _told[subject, seq] = None
            log.warning("%s (%d) cannot be used and is left out: %s", subject[:200], seq, error)
        return None
