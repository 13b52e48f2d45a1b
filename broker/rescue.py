"""Messages that a work queue keeps and its consumer has forgotten are put back.

After `nats stream purge WHISPER_JOBS --subject ...` nats-server may believe that other messages, which are still in the stream,
were acknowledged: they would never be delivered again (broker/deleting.py). We do not purge queues; an operator may. It also
writes a stream and the state of its consumers at different moments, between which a power cut may come.
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
REASON = "it is being put back into its queue"
"""Of a dead letter that is one only while that is done, so that a crash in between loses nothing."""


class Rescue:
    def __init__(self, js: JetStreamContext, dead: DeadLetters) -> None:
        self._js, self._dead = js, dead
        self._suspects: set[tuple[str, int]] = set()

    async def once(self) -> int:
        """Put back what was forgotten already at the call before: an acknowledged message is gone by then.

        How many. Raises Unavailable.
        """
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
        """The consumer believes that everything up to this sequence is acknowledged."""
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
        """Also what another gateway has begun and not brought to an end."""
        async for letter in scan(self._js, subjects.DEAD_STREAM, subjects.ALL_RESCUED):
            try:
                await self._dead.requeue(letter.seq)
            except AlreadySubmitted:
                await self._dead.remove(letter.seq)
            except KeyError:  # another gateway was faster
                continue
            except Refused as error:  # somebody else has written it, and the others must not wait for it
                log.warning("the dead letter %d is left where it is: %s", letter.seq, error)
