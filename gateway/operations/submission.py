"""POST /jobs: from the request to the one publish that makes a job, and the same job for the same idempotency key."""

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import msgspec
from quart import Request

from broker.errors import AlreadySubmitted, BrokerError, Conflict, Refused, StorageFull
from broker.idempotency import IdempotencyKeys
from broker.model_control import request_model
from broker.object_reading import digest_text
from gateway.admission import JobsWhenUnloaded, prefers_async, refusal
from gateway.http.upload import boundary, limited, receive, within_limit
from gateway.services import Services
from schemas import idempotency
from schemas.errors import ErrorCode, RequestError
from schemas.idempotency import Claim, Standing
from schemas.jobs import JobRequest
from schemas.submission import request_from_form
from schemas.webhooks import webhook_of

log = logging.getLogger(__name__)

KEY_HEADER = "Idempotency-Key"
UPLOAD_RETRY_SECS = 5
"""When to ask again for a key whose first upload is running."""


class Accepted(msgspec.Struct, kw_only=True, frozen=True):
    job_id: str
    is_new: bool
    headers: Mapping[str, str]


async def submit(services: Services, request: Request) -> Accepted:
    """Raises RequestError, Unavailable; then no audio stays."""
    boundary(request.headers.get("Content-Type", ""))  # refused before the body is read, as all that can be
    key = request.headers.get(KEY_HEADER)
    if key is None:
        headers = await admit(services, request)
        job_id = uuid.uuid4().hex
        job, _ = await upload(services, request, job_id)
        await publish(services, job_id, job)
        return Accepted(job_id=job_id, is_new=True, headers=headers)
    return await _submit_once(services, request, idempotency.entry_name(key))


async def _submit_once(services: Services, request: Request, name: str) -> Accepted:
    """For each key one job. Raises RequestError `upload_running`, `idempotency_mismatch`."""
    claim, revision = await services.keys.get(name)
    age = await services.keys.age(revision) if claim is not None else timedelta()
    match idempotency.standing(claim, age):
        case Standing.RUNNING:
            raise _upload_running()
        case Standing.USED if claim is not None and await services.jobs.records.get(claim.job_id):
            if await _fingerprint_of(request) != claim.fingerprint:
                detail = "This Idempotency-Key was used for other audio or other options."
                raise RequestError(ErrorCode.IDEMPOTENCY_MISMATCH, detail, KEY_HEADER)
            return Accepted(job_id=claim.job_id, is_new=False, headers={})
        case Standing.USED if claim is not None:
            # Nothing is there: it was not published, or was erased, or expired. Should its message still be on its way, the
            # same id cannot make two jobs.
            job_id = claim.job_id
        case _:
            job_id = uuid.uuid4().hex
    headers = await admit(services, request)
    mine = Claim(job_id=job_id, renewed_at=datetime.now(UTC), holder=uuid.uuid4().hex)
    key = _HeldKey(services.keys, name, mine, revision)
    job = None
    try:
        async with key.held():
            job, digest = await upload(services, request, job_id)
        await key.store(fingerprint=idempotency.fingerprint(job, digest))
    except (RequestError, BrokerError):
        # A failed upload has tidied up after itself. Who took the key meanwhile may be at work on the very same job.
        if job is not None and key.taken_for != job_id:
            await services.audio.delete(job_id)
        raise
    await publish(services, job_id, job)
    return Accepted(job_id=job_id, is_new=True, headers=headers)


class _HeldKey:
    """An idempotency key that is ours while its upload runs."""

    def __init__(self, keys: IdempotencyKeys, name: str, claim: Claim, revision: int) -> None:
        self._keys, self._name, self._claim, self._revision = keys, name, claim, revision
        self.taken_for: str | None = None
        """The job of the upload that has the key now, where it is not ours any more."""

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Say again and again that we live; free the key where the upload fails. Raises RequestError `upload_running`."""
        await self.store()
        renewing = asyncio.create_task(self._renew(), name="renew idempotency key")
        try:
            yield
        except BaseException:
            renewing.cancel()
            await asyncio.wait([renewing])
            await self._give_up()
            raise
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])
        if not renewing.cancelled():
            renewing.result()  # it ends by itself only with an error: somebody else has the key

    async def store(self, fingerprint: str | None = None) -> None:
        """Raises RequestError where another upload has the key, StorageFull, Unavailable."""
        now = datetime.now(UTC)
        self._claim = msgspec.structs.replace(self._claim, renewed_at=now, fingerprint=fingerprint)
        try:
            self._revision = await self._keys.put(self._name, self._claim, self._revision)
        except Conflict as error:
            found, revision = await self._keys.get(self._name)
            if found is None or found.holder != self._claim.holder:
                self.taken_for = found.job_id if found is not None else None
                raise _upload_running() from error
            # An earlier write was stored and its answer lost: the key is still ours.
            self._revision = await self._put_over(revision)

    async def _put_over(self, revision: int) -> int:
        try:
            return await self._keys.put(self._name, self._claim, revision)
        except Conflict as error:
            raise _upload_running() from error

    async def _renew(self) -> None:
        """A renewal that fails is tried again at the next turn: three may fail before anybody else may take the key."""
        while True:
            await asyncio.sleep(idempotency.RENEW_SECS)
            try:
                await self.store()
            except BrokerError as error:
                log.warning("an idempotency key was not renewed: %s", error)

    async def _give_up(self) -> None:
        """Free the key of an upload that failed, unless somebody else has it by now."""
        try:
            await self._keys.give_up(self._name, self._revision)
        except BrokerError as error:
            log.warning("an idempotency key is not freed, it will be when it is stale: %s", error)


async def admit(services: Services, request: Request) -> Mapping[str, str]:
    """Refuse a job that must wait for a model, unless it may; the headers to answer with. Raises RequestError."""
    if prefers_async(request.headers.get("Prefer")):
        return {"Preference-Applied": "respond-async"}
    if services.settings.jobs_when_unloaded is JobsWhenUnloaded.QUEUE:
        return {}
    why = refusal(await services.statuses.alive(), datetime.now(UTC))
    if why is None:
        return {}
    if why.load:
        try:
            await request_model(services.client, "load")
        except BrokerError as error:  # the client is told to come back anyway
            log.warning("no load could be asked for: %s", error)
    raise RequestError(why.code, why.detail, retry_after=why.retry_after)


async def upload(services: Services, request: Request, job_id: str) -> tuple[JobRequest, str]:
    """Stream the request's audio into the store; the job that is asked for, and the audio's digest.

    If anything fails, no audio stays. Raises RequestError, StorageFull, Refused, Unavailable.
    """
    limit = services.settings.max_upload_bytes
    within_limit(request.content_length, limit)  # the whole form is hardly larger than its file
    content_type, created_at, digest = request.headers.get("Content-Type", ""), datetime.now(UTC), ""
    begun = time.monotonic()

    async def validated(fields: dict[str, str], filename: str | None) -> JobRequest:
        job = request_from_form(fields, filename, created_at)
        if job.webhook_url is not None:
            await services.webhook_guard.check(job.webhook_url)
        return job

    async def store(fields: dict[str, str], filename: str | None, audio: AsyncIterator[bytes]) -> None:
        nonlocal digest
        await validated(fields, filename)  # what is known already is checked before the upload
        digest = (await services.audio.put(job_id, limited(audio, limit))).digest

    try:
        form = await receive(request.body, content_type, store)
        job = await validated(form.fields, form.filename)
        return msgspec.structs.replace(job, upload_secs=round(time.monotonic() - begun, 4)), digest
    except BaseException:
        if digest:
            await services.audio.delete(job_id)
        raise


async def publish(services: Services, job_id: str, job: JobRequest) -> None:
    """Make it a job.

    Raises StorageFull or Refused, then it is none and no audio stays; Unavailable: whether it is one is not known then, so its
    audio is left to the sweep.
    """
    try:
        if (webhook := webhook_of(job, job.created_at or datetime.now(UTC))) is not None:
            await services.webhook_urls.register(webhook)
        with suppress(AlreadySubmitted):  # by a gateway that died before it could answer: the job is there
            await services.queue.submit(job_id, job)
    except (StorageFull, Refused):
        await services.audio.delete(job_id)
        raise


async def _fingerprint_of(request: Request) -> str:
    """Read the request to its end without storing it. Raises RequestError."""
    digest, created_at = hashlib.sha256(), datetime.now(UTC)

    async def read(_fields: dict[str, str], _filename: str | None, audio: AsyncIterator[bytes]) -> None:
        async for piece in audio:
            digest.update(piece)

    form = await receive(request.body, request.headers.get("Content-Type", ""), read)
    job = request_from_form(form.fields, form.filename, created_at)
    return idempotency.fingerprint(job, digest_text(digest))


def _upload_running() -> RequestError:
    detail = "The first upload with this Idempotency-Key is still running."
    return RequestError(ErrorCode.UPLOAD_RUNNING, detail, KEY_HEADER, retry_after=UPLOAD_RETRY_SECS)
