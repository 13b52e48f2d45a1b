"""What can go wrong with the broker. Nothing above this package catches nats.errors."""


class BrokerError(Exception):
    """Base."""


class Unavailable(BrokerError):
    """The server cannot be reached or did not answer in time."""


class Refused(BrokerError):
    """The server says no for good: trying again cannot help."""


class Conflict(BrokerError):
    """A compare-and-set lost: somebody else wrote first."""


class AlreadySubmitted(BrokerError):
    """The stream has a submission with this job id."""


class ObjectMissing(BrokerError):
    """There is no such object, or its chunks are gone."""


class ObjectCorrupt(BrokerError):
    """The object's bytes do not match its digest or size."""
