"""Enums that travel between processes of different versions.

A rolling upgrade has gateways and workers of two versions at once. A value that only the newer one knows must not make the
older one refuse the whole message (nor the list of jobs, or /health, that it is a part of).
"""

from enum import StrEnum
from typing import Self


class Told(StrEnum):
    """A value that another process reports: one that this version does not know is read as the member UNKNOWN.

    Each subclass must have that member, with the value `unknown`.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        return cls.__members__.get("UNKNOWN") if isinstance(value, str) else None


class Asked(StrEnum):
    """A value that a user has asked for: one that this version does not know is kept as it is, and is no member.

    So a record passes through an older process unharmed. Code that acts on the value checks `is_known` first, and both doors refuse
    a submission with an unknown value (schemas/submission.py).
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str) or len(value) > MAX_ASKED_CHARS:
            return None
        kept = str.__new__(cls, value)
        kept._name_, kept._value_ = "UNKNOWN", value
        return kept

    @property
    def is_known(self) -> bool:
        """Whether this version knows the value."""
        return self.value in type(self)._value2member_map_


MAX_ASKED_CHARS = 256
"""Limit of an unknown value."""
