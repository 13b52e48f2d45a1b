"""Puts messages back that are in a work queue but that its consumer has forgotten.

After `nats stream purge WHISPER_JOBS --subject ...` nats-server may believe that other messages, which are still in the stream, were
acknowledged, and never deliver them again (broker/deleting.py). We do not purge queues, but an operator may. nats-server also
writes a stream and the state of its consumers at different moments, and a power cut may come in between.
"""

import logging

from nats.js import JetStreamContext

from broker.dead_letters import DeadLetters
from broker.deleting import delete_message
from broker.error_mapping import mapped_errors
from broker.errors import AlreadySubmitted, Refused, TooLarge
from broker.scanning import Stored, scan
from schemas import subjects

log = logging.getLogger(__name__)

QUEUES = {
    subjects.JOBS_STREAM: (subjects.GPU_WORKER_CONSUMER, subjects.ALL_SUBMITS),
}
"""Stream to its consumer and its subjects."""
REASON = "it is being put back into its queue"
"""Reason of a dead letter that exists only while its message is put back, so that a crash loses nothing."""


class Rescue:
    """Finds forgotten messages by two looks: a message that was acknowledged is gone at the second one."""

    def __init__(self, js: JetStreamContext, dead: DeadLetters) -> None:
        self._js, self._dead = js, dead
        self._suspects: set[tuple[str, int]] = set()

    async def once(self) -> int:
        """Put back the messages that were forgotten at the previous call already. Returns how many. Raises Unavailable."""
        await self._finish()
        suspects, rescued = set[tuple[str, int]](), 0
        for stream, (consumer, pattern) in QUEUES.items():
            floor = await self._floor(stream, consumer)
            async for stored in scan(self._js, stream, pattern):
                if stored.seq > floor:
                    break
                suspects.add((stream, stored.seq))
                if (stream, stored.seq) in self._suspects:
                    await self._put_back(stream, stored)
                    rescued += 1
        self._suspects = suspects
        return rescued

    async def _floor(self, stream: str, consumer: str) -> int:
        """Return the sequence up to which the consumer believes that everything is acknowledged."""
        with mapped_errors():
            info = await self._js.consumer_info(stream, consumer)
        return int(info.ack_floor.stream_seq) if info.ack_floor else 0

    async def _put_back(self, stream: str, stored: Stored) -> None:
        log.warning("%s was forgotten by its consumer, it is put back", stored.subject)
        place, letter_id = subjects.rescued(stored.subject), f"rescue {stream} {stored.seq}"
        try:
            await self._dead.keep(place, stored.subject, stored.body, REASON, letter_id)
        except TooLarge as error:
            log.error("%s stays where it is until nats-server is restarted: %s", stored.subject, error)
            return
        await delete_message(self._js, stream, stored.seq)
        await self._finish()

    async def _finish(self) -> None:
        """Requeue the letters of messages that are being put back, also those that another gateway has left unfinished."""
        async for letter in scan(self._js, subjects.DEAD_STREAM, subjects.ALL_RESCUED):
            try:
                await self._dead.requeue(letter.seq)
            except AlreadySubmitted:
                await self._dead.remove(letter.seq)
            except KeyError:
                # Another gateway was faster.
                continue
            except Refused as error:
                # Somebody else has written it, and the other letters must not wait for it.
                log.warning("the dead letter %d is left where it is: %s", letter.seq, error)
