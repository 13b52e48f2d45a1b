"""Dead letters: messages that nobody could use, kept with the reason. Unusable submissions, and deliveries that were given up."""

from datetime import datetime

import msgspec
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.errors import NotFoundError

from broker.deleting import delete_message
from broker.error_mapping import mapped_errors
from broker.errors import Refused, TooLarge
from broker.scanning import scan
from broker.work_queue import publish_once
from schemas import subjects
from schemas.limits import clipped


class DeadLetter(msgspec.Struct, kw_only=True, frozen=True):
    """One message with its reason."""

    seq: int
    """Its stream sequence, by which operators name it."""
    subject: str
    """The subject on which it was, and to which a requeue returns it."""
    reason: str
    at: datetime
    body: bytes


class DeadLetters:
    """The stream WHISPER_DEAD."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js

    async def add(self, subject: str, body: bytes, reason: str, letter_id: str) -> None:
        """Keep a message, once for each `letter_id`. Raises StorageFull, Unavailable.

        A message that is too large together with the headers is cut, and the reason says so.
        """
        place = subjects.dead(subject)
        try:
            await self.keep(place, subject, body, reason, letter_id)
        except TooLarge:
            kept = body[: len(body) // 2]
            told = f"{reason} (only its first {len(kept)} bytes are kept)"
            await self.keep(place, subject, kept, told, letter_id)

    async def keep(self, place: str, subject: str, body: bytes, reason: str, letter_id: str) -> None:
        """Keep a message of `subject` as a whole on the subject `place`, once for each `letter_id`.

        Raises TooLarge, StorageFull, Unavailable.
        """
        headers = {
            subjects.ORIGIN_HEADER: subject,
            # A header is one line.
            subjects.REASON_HEADER: clipped(" ".join(reason.split())),
            str(Header.MSG_ID.value): letter_id,
        }
        with mapped_errors():
            await self._js.publish(place, body, headers=headers)

    async def all(self) -> list[DeadLetter]:
        """Return all dead letters, oldest first. Raises Unavailable."""
        return [
            DeadLetter(
                seq=stored.seq,
                subject=stored.headers.get(subjects.ORIGIN_HEADER, stored.subject),
                reason=stored.headers.get(subjects.REASON_HEADER, ""),
                at=stored.time,
                body=stored.body,
            )
            async for stored in scan(self._js, subjects.DEAD_STREAM, subjects.ALL_DEAD)
        ]

    async def count(self) -> int:
        """Return how many there are. Raises Unavailable."""
        with mapped_errors():
            info = await self._js.stream_info(subjects.DEAD_STREAM)
        return int(info.state.messages)

    async def requeue(self, seq: int) -> str:
        """Put a letter back on its subject, which is returned.

        Raises KeyError where there is none; AlreadySubmitted for a job that is in the queue already; Refused for a letter that was
        in none of our queues, because others can write letters too and this must not publish for them; StorageFull, Unavailable.
        """
        with mapped_errors():
            try:
                stored = await self._js.get_msg(subjects.DEAD_STREAM, seq)
            except NotFoundError:
                raise KeyError(seq) from None
        subject = str((stored.headers or {}).get(subjects.ORIGIN_HEADER, ""))
        stream = subjects.queue_of(subject)
        if stream is None:
            raise Refused(f"the dead letter {seq} comes from {subject[:200]!r}, which is no queue")
        if stream == subjects.JOBS_STREAM:
            await publish_once(self._js, stream, subject, stored.data or b"")
        else:
            with mapped_errors():
                await self._js.publish(subject, stored.data or b"")
        await self.remove(seq)
        return subject

    async def remove(self, seq: int) -> None:
        """Delete a letter. Raises Unavailable."""
        await delete_message(self._js, subjects.DEAD_STREAM, seq)
