"""The error of an `up` that cannot start."""


class StartError(Exception):
    """The system cannot start; the sentence says why."""
