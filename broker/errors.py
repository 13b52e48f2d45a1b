"""What can go wrong with nats-server. Nothing above this package catches nats.errors; broker/verdict.py maps those to these."""


class BrokerError(Exception):
    """Base of all errors of this package."""


class Unavailable(BrokerError):
    """The server cannot be reached, or did not answer in time. The same request will work later."""


class StorageFull(BrokerError):
    """The store has no room. The same request will work once there is room."""


class SubjectFull(StorageFull):
    """The stream holds as many messages on this subject as it may. There may be room for others."""


class Refused(BrokerError):
    """The server will never accept this request, or this user may not make it. A repetition cannot help."""


class TooLarge(Refused):
    """The message is larger than the server accepts."""


class ConnectionLost(BrokerError):
    """The connection is closed for good, so that nothing of this process can work any more."""


class Conflict(BrokerError):
    """A compare-and-set has failed, because somebody else has written first."""


class AlreadySubmitted(BrokerError):
    """The stream has a submission with this job id already."""


class ObjectMissing(BrokerError):
    """There is no such object, or its chunks are gone."""


class ObjectCorrupt(BrokerError):
    """The object's bytes do not match its digest or size."""


OUTAGES: tuple[type[BrokerError], ...] = (Unavailable, StorageFull)
"""Errors that pass by themselves: nats-server comes back, or somebody makes room. Waiting for them is never wrong."""
