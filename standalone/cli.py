"""The entry point of the `whisper-jetstream` command."""

import os
import signal
import sys

from process.exit_status import INTERRUPTED


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv`, by default that of this process, and return the exit status."""
    # Nothing is started yet, so a Ctrl-C may end the process on the spot. As an exception in the middle of an import it
    # would be swallowed by some libraries, and crash others.
    usual = signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from standalone.commands import main as run

    signal.signal(signal.SIGINT, usual)
    try:
        return run(argv)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
