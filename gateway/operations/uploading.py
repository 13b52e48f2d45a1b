"""The upload of a submission: what it asks for is checked and its audio streamed into the store while it arrives."""

import hashlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec

from broker.object_reading import digest_text
from broker.object_store import ObjectStore
from gateway.outbound.guard import Guard
from gateway.upload.pieces import limited, within_limit
from gateway.upload.query import together
from gateway.upload.receiving import Incoming, receive
from schemas import idempotency
from schemas.jobs import JobRequest
from schemas.submission import request_from_form


class Uploaded(msgspec.Struct, kw_only=True, frozen=True):
    """An upload whose audio is in the store."""

    request: JobRequest
    digest: str
    """Of the audio, in the form of the object store."""


class Uploader:
    """Receives uploads."""

    def __init__(self, audio: ObjectStore, guard: Guard, max_bytes: int) -> None:
        """`max_bytes` is the largest upload; 0 for no limit. `guard` checks the webhook URL of a submission."""
        self._audio, self._guard, self._max_bytes = audio, guard, max_bytes

    async def upload(self, incoming: Incoming, job_id: str) -> Uploaded:
        """Stream the audio of an upload into the object `job_id`, and return the job that is asked for.

        If anything fails, no audio stays. Raises RequestError, StorageFull, Refused, Unavailable.
        """
        # The body as a whole is hardly larger than its file.
        within_limit(incoming.content_length, self._max_bytes)
        created_at, digest = datetime.now(UTC), ""
        begun = time.monotonic()

        async def validated(fields: dict[str, str], filename: str | None) -> JobRequest:
            job = request_from_form(fields, filename, created_at)
            if job.webhook_url is not None:
                await self._guard.check(job.webhook_url)
            return job

        async def store(fields: dict[str, str], filename: str | None, audio: AsyncIterator[bytes]) -> None:
            nonlocal digest
            # The options before the file are checked before a byte of it is stored.
            await validated(fields, filename)
            digest = (await self._audio.put(job_id, limited(audio, self._max_bytes))).digest

        try:
            # What the query asks for is checked before a byte of the body is read.
            await validated(*together({}, incoming.query))
            found = await receive(incoming, store)
            job = await validated(found.fields, found.filename)
            job = msgspec.structs.replace(job, upload_secs=round(time.monotonic() - begun, 4))
            return Uploaded(request=job, digest=digest)
        except BaseException:
            if digest:
                await self._audio.delete(job_id)
            raise

    async def discard(self, job_id: str) -> None:
        """Delete the audio of an upload that becomes no job. Raises Unavailable."""
        await self._audio.delete(job_id)


async def fingerprint_of(incoming: Incoming) -> str:
    """Read an upload to its end without storing it, and return its fingerprint (schemas.idempotency). Raises RequestError."""
    digest, created_at = hashlib.sha256(), datetime.now(UTC)

    async def read(_fields: dict[str, str], _filename: str | None, audio: AsyncIterator[bytes]) -> None:
        async for piece in audio:
            digest.update(piece)

    found = await receive(incoming, read)
    job = request_from_form(found.fields, found.filename, created_at)
    return idempotency.fingerprint(job, digest_text(digest))
