"""The door of the `whisper-jetstream` command."""

import os
import signal
import sys

INTERRUPTED = 130
"""The exit status of a command that a Ctrl-C has ended before it was done."""


def main(argv: list[str] | None = None) -> int:
    """The exit status."""
    # Nothing is started yet, so a Ctrl-C may end the process on the spot. As an exception in the middle of an import it is
    # swallowed by some libraries, and others crash on it.
    usual = signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from standalone.commands import main as run

    signal.signal(signal.SIGINT, usual)
    try:
        return run(argv)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
