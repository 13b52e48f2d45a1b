"""Reads stored messages as objects. One that cannot be used is left out and logged once."""

import logging
from collections.abc import Callable
from typing import TypeVar

from schemas.inputs import Unreadable

log = logging.getLogger(__name__)

COMPLAINTS = 1000
"""How many unusable messages are remembered, so that each is logged once and not at every look."""

T = TypeVar("T")

_logged: dict[tuple[str, int], None] = {}


def usable(read: Callable[[bytes], T], subject: str, seq: int, body: bytes) -> T | None:
    """Return what `read` (schemas/inputs.py) makes of a message; None, with a line of log, where it is Unreadable."""
    try:
        return read(body)
    except Unreadable as error:
        if (subject, seq) not in _logged:
            if len(_logged) >= COMPLAINTS:
                del _logged[next(iter(_logged))]
            _logged[subject, seq] = None
            log.warning("%s (%d) cannot be used and is left out: %s", subject[:200], seq, error)
        return None
