"""When a dead process is started again. Pure: times in, delays out."""

FIRST_DELAY_SECS = 0.5
MAX_DELAY_SECS = 30.0
"""The delay doubles from the first to the last of these."""
STABLE_SECS = 60.0
"""After a life of this length the backoff begins again."""


class Backoff:
    """The delay before a restart: it doubles from death to death, and begins again after a stable life."""

    def __init__(self) -> None:
        self._delay = FIRST_DELAY_SECS

    def after_death(self, lived_secs: float) -> float:
        """Return the seconds to wait before the next start of a process that has lived for `lived_secs`."""
        if lived_secs >= STABLE_SECS:
            self._delay = FIRST_DELAY_SECS
        delay = self._delay
        self._delay = min(2 * self._delay, MAX_DELAY_SECS)
        return delay


def death_in_words(name: str, status: int) -> str:
    """Return how a process has ended. `status` comes from asyncio: negative for a signal."""
    how = f"was ended by signal {-status}" if status < 0 else f"exited with status {status}"
    return f"{name} {how}"
