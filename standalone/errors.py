"""What keeps `up` from starting."""


class StartError(Exception):
    """The system cannot start; the sentence says why."""
