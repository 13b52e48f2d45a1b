"""Taking messages out of streams that consumers read.

One by one, never by a purge of their subjects: after that nats-server (2.15.1, its issue 5727) believes that a consumer with a
wider filter has acknowledged messages which it has not. Two jobs in work, the second one cancelled by a purge: the first was
never delivered again when its worker died. tests/integration/test_deleting.py has it. Streams without such
consumers (buckets) are purged.
"""

import asyncio

from nats.js import JetStreamContext
from nats.js.errors import APIError

from broker.error_mapping import mapped_errors
from broker.scanning import scan

NO_SUCH_MESSAGE = frozenset({10037, 10043, 10057})
"""JetStream error codes: no message found, no such sequence; the deletion found none."""
AT_ONCE = 64


async def delete_message(js: JetStreamContext, stream: str, seq: int) -> None:
    """That another gateway was faster is fine. Raises Unavailable."""
    with mapped_errors():
        try:
            await js.delete_msg(stream, seq)
        except APIError as error:
            if error.err_code not in NO_SUCH_MESSAGE:
                raise


async def delete_subject(js: JetStreamContext, stream: str, pattern: str) -> None:
    """What is stored now on subjects that match. Raises Unavailable."""
    found = [stored.seq async for stored in scan(js, stream, pattern)]
    for begin in range(0, len(found), AT_ONCE):
        batch = found[begin : begin + AT_ONCE]
        results = await asyncio.gather(
            *(delete_message(js, stream, seq) for seq in batch), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
