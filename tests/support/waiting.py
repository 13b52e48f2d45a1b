"""Waiting for something that can only be looked at."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], secs: float = 30) -> None:
    deadline = time.monotonic() + secs
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)
