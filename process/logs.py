"""The log of a process: one line for each event, on stderr."""

import logging
import sys


def set_up_logging(level: str) -> None:
    """To stderr, with time, level and module."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
