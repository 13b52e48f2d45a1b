"""The door of the `whisper-jetstream` command: a Ctrl-C while Python is still importing the rest ends it in order, too."""

import sys


def main(argv: list[str] | None = None) -> int:
    """The exit status."""
    try:
        from standalone.commands import main as run

        return run(argv)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
