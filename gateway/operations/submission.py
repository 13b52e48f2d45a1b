"""A submission over HTTP, from its upload to the job: admission, upload, publish; and one job for each idempotency key."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from broker.errors import BrokerError
from broker.idempotency import IdempotencyKeys
from broker.job_records import JobRecords
from gateway.operations.admitting import Admission
from gateway.operations.held_key import KEY_HEADER, HeldKey, upload_running
from gateway.operations.publishing import Publisher
from gateway.operations.uploading import Uploader, fingerprint_of
from gateway.upload.receiving import Incoming
from schemas import idempotency
from schemas.errors import ErrorCode, RequestError
from schemas.idempotency import Claim, Standing


class Accepted(msgspec.Struct, kw_only=True, frozen=True):
    """A submission that has become a job."""

    job_id: str
    is_new: bool
    """False where the idempotency key has found the job of an earlier submission."""
    headers: Mapping[str, str]
    """Headers that the answer must have."""


class Submission:
    """Makes jobs of uploads."""

    def __init__(
        self,
        admission: Admission,
        uploader: Uploader,
        publisher: Publisher,
        keys: IdempotencyKeys,
        records: JobRecords,
    ) -> None:
        self._admission, self._uploader, self._publisher = admission, uploader, publisher
        self._keys, self._records = keys, records

    async def submit(self, incoming: Incoming, *, prefer: str | None, key: str | None) -> Accepted:
        """Make a job. `prefer` and `key` are the headers Prefer and Idempotency-Key.

        Raises RequestError, StorageFull, Refused, Unavailable; then no audio stays.
        """
        if key is not None:
            return await self._submit_once(incoming, prefer, idempotency.entry_name(key))
        headers = await self._admission.admit(prefer)
        job_id = uuid.uuid4().hex
        uploaded = await self._uploader.upload(incoming, job_id)
        await self._publisher.publish(job_id, uploaded.request)
        return Accepted(job_id=job_id, is_new=True, headers=headers)

    async def _submit_once(self, incoming: Incoming, prefer: str | None, name: str) -> Accepted:
        """Make one job for each key. Raises also RequestError `upload_running`, `idempotency_mismatch`."""
        claim, revision = await self._keys.get(name)
        age = await self._keys.age(revision) if claim is not None else timedelta()
        match idempotency.standing(claim, age):
            case Standing.RUNNING:
                raise upload_running()
            case Standing.USED if claim is not None and await self._records.get(claim.job_id):
                if await fingerprint_of(incoming) != claim.fingerprint:
                    detail = "This Idempotency-Key was used for other audio or other options."
                    raise RequestError(ErrorCode.IDEMPOTENCY_MISMATCH, detail, KEY_HEADER)
                return Accepted(job_id=claim.job_id, is_new=False, headers={})
            case Standing.USED if claim is not None:
                # There is no such job: it was not published, or it was erased, or it has expired. The same id is used
                # again, because a submission that is still on its way can then not make a second job.
                job_id = claim.job_id
            case _:
                job_id = uuid.uuid4().hex
        headers = await self._admission.admit(prefer)
        mine = Claim(job_id=job_id, renewed_at=datetime.now(UTC), holder=uuid.uuid4().hex)
        held = HeldKey(self._keys, name, mine, revision)
        uploaded = None
        try:
            async with held.held():
                uploaded = await self._uploader.upload(incoming, job_id)
            await held.store(fingerprint=idempotency.fingerprint(uploaded.request, uploaded.digest))
        except (RequestError, BrokerError):
            # A failed upload has deleted its audio itself. The upload that has the key now may be that of the same job.
            if uploaded is not None and held.taken_for != job_id:
                await self._uploader.discard(job_id)
            raise
        await self._publisher.publish(job_id, uploaded.request)
        return Accepted(job_id=job_id, is_new=True, headers=headers)
