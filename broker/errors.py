"""What can go wrong with the broker. Nothing above this package catches nats.errors; broker/verdict.py decides which is which."""


class BrokerError(Exception):
    """Base."""


class Unavailable(BrokerError):
    """Transient: the server cannot be reached or did not answer in time. The same will work later."""


class StorageFull(BrokerError):
    """The store has no room for this. The same will work once there is room."""


class SubjectFull(StorageFull):
    """The stream holds as many messages on this subject as it may. There may be room for others."""


class Refused(BrokerError):
    """Permanent: the server (or this connection's rights) will never take this. Trying again cannot help."""


class TooLarge(Refused):
    """The message is larger than the server takes."""


class ConnectionLost(BrokerError):
    """The connection is closed for good: nothing of this process can work any more."""


class Conflict(BrokerError):
    """A compare-and-set lost: somebody else wrote first."""


class AlreadySubmitted(BrokerError):
    """The stream has a submission with this job id."""


class ObjectMissing(BrokerError):
    """There is no such object, or its chunks are gone."""


class ObjectCorrupt(BrokerError):
    """The object's bytes do not match its digest or size."""


OUTAGES: tuple[type[BrokerError], ...] = (Unavailable, StorageFull)
"""Errors that pass by themselves: nats-server comes back, or somebody makes room. Waiting for them is never wrong."""
