"""Deletes messages from streams that consumers read.

Messages are deleted one by one, and never by a purge of their subjects: after such a purge nats-server (2.15.1, its issue 5727)
believes that a consumer with a wider filter has acknowledged messages which it has not. With two jobs in work, the second one
cancelled by a purge, the first was never delivered again when its worker died (tests/integration/test_deleting.py). Streams
without consumers, such as buckets, are purged.
"""

import asyncio

from nats.js import JetStreamContext
from nats.js.errors import APIError

from broker.error_mapping import mapped_errors
from broker.scanning import scan

NO_SUCH_MESSAGE = frozenset({10037, 10043, 10057})
"""JetStream error codes: no message found, no such sequence, nothing to delete."""
AT_ONCE = 64
"""How many deletions are sent at a time."""


async def delete_message(js: JetStreamContext, stream: str, seq: int) -> None:
    """Delete a message; one that is gone already is no error. Raises Unavailable."""
    with mapped_errors():
        try:
            await js.delete_msg(stream, seq)
        except APIError as error:
            if error.err_code not in NO_SUCH_MESSAGE:
                raise


async def delete_subject(js: JetStreamContext, stream: str, pattern: str) -> None:
    """Delete the messages that are stored now on matching subjects. Raises Unavailable."""
    found = [stored.seq async for stored in scan(js, stream, pattern)]
    for begin in range(0, len(found), AT_ONCE):
        batch = found[begin : begin + AT_ONCE]
        results = await asyncio.gather(
            *(delete_message(js, stream, seq) for seq in batch), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
