"""An Idempotency-Key that is held by one upload, among all gateways, for as long as the upload runs."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from broker.errors import BrokerError, Conflict
from broker.idempotency import IdempotencyKeys
from schemas import idempotency
from schemas.errors import ErrorCode, RequestError
from schemas.idempotency import Claim

log = logging.getLogger(__name__)

KEY_HEADER = "Idempotency-Key"
UPLOAD_RETRY_SECS = 5
"""Retry-After for a key whose first upload is still running."""


class HeldKey:
    """An idempotency key that is ours while its upload runs."""

    def __init__(self, keys: IdempotencyKeys, name: str, claim: Claim, revision: int) -> None:
        """`name` is the entry of the key; `revision` is that of the entry which our claim replaces, 0 for none."""
        self._keys, self._name, self._claim, self._revision = keys, name, claim, revision
        self.taken_for: str | None = None
        """Id of the job whose upload has the key now, where it is not ours any more."""

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Renew the claim while the block runs, and free the key where the block fails.

        Raises RequestError `upload_running` where somebody else gets the key.
        """
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
            # The task ends by itself only with an error: somebody else has the key.
            renewing.result()

    async def store(self, fingerprint: str | None = None) -> None:
        """Write our claim. With a fingerprint the key is used for good.

        Raises RequestError where another upload has the key, StorageFull, Unavailable.
        """
        now = datetime.now(UTC)
        self._claim = msgspec.structs.replace(self._claim, renewed_at=now, fingerprint=fingerprint)
        try:
            self._revision = await self._keys.put(self._name, self._claim, self._revision)
        except Conflict as error:
            found, revision = await self._keys.get(self._name)
            if found is None or found.holder != self._claim.holder:
                self.taken_for = found.job_id if found is not None else None
                raise upload_running() from error
            # An earlier write was stored and its answer was lost: the key is still ours.
            self._revision = await self._put_over(revision)

    async def _put_over(self, revision: int) -> int:
        try:
            return await self._keys.put(self._name, self._claim, revision)
        except Conflict as error:
            raise upload_running() from error

    async def _renew(self) -> None:
        """Renew without end. Three renewals in a row may fail before another upload may take the key."""
        while True:
            await asyncio.sleep(idempotency.RENEW_SECS)
            try:
                await self.store()
            except BrokerError as error:
                log.warning("an idempotency key was not renewed: %s", error)

    async def _give_up(self) -> None:
        """Free the key of an upload that has failed, unless another upload has it by now."""
        try:
            await self._keys.give_up(self._name, self._revision)
        except BrokerError as error:
            log.warning("an idempotency key is not freed, it will be when it is stale: %s", error)


def upload_running() -> RequestError:
    """Return the error for a key whose first upload has not ended yet."""
    detail = "The first upload with this Idempotency-Key is still running."
    return RequestError(ErrorCode.UPLOAD_RUNNING, detail, KEY_HEADER, retry_after=UPLOAD_RETRY_SECS)
