"""When to start a dead process again. Pure: times come in, delays come out."""

FIRST_DELAY_SECS = 0.5
MAX_DELAY_SECS = 30.0
STABLE_SECS = 60.0
"""A process that lived so long has earned a fresh start of the backoff."""


class Backoff:
    """Doubles from death to death, and begins anew after a stable life."""

    def __init__(self) -> None:
        self._delay = FIRST_DELAY_SECS

    def after_death(self, lived_secs: float) -> float:
        """Seconds to wait before the next start."""
        if lived_secs >= STABLE_SECS:
            self._delay = FIRST_DELAY_SECS
        delay = self._delay
        self._delay = min(2 * self._delay, MAX_DELAY_SECS)
        return delay


def death_in_words(name: str, status: int) -> str:
    """`status` as asyncio gives it: negative for a signal."""
    how = f"was ended by signal {-status}" if status < 0 else f"exited with status {status}"
    return f"{name} {how}"
