"""The exit statuses of our processes and commands."""

import signal

FAILED = 1
"""An error that is logged in one line."""
CANNOT_START = 2
"""The settings are wrong, or something that every run needs is missing."""
KILLED_BY = 128
"""Added to the number of a signal, this is the exit status that shells report for a process which the signal has ended."""
INTERRUPTED = KILLED_BY + signal.SIGINT
"""A Ctrl-C has ended a command before it was done."""
