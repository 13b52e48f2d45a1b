"""Who has used which idempotency key: claims in key-value, taken by compare-and-set."""

import msgspec
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from broker.connection import mapped_errors
from broker.topology import KV_KEY, KV_STREAM
from schemas.idempotency import Claim
from schemas.subjects import IDEMPOTENCY_BUCKET


class IdempotencyKeys:
    def __init__(self, js: JetStreamContext, bucket: KeyValue) -> None:
        self._js, self._bucket = js, bucket

    @classmethod
    async def open(cls, js: JetStreamContext) -> "IdempotencyKeys":
        with mapped_errors():
            return cls(js, await js.key_value(IDEMPOTENCY_BUCKET))

    async def get(self, name: str) -> tuple[Claim | None, int]:
        """The claim and its revision, 0 where there is none. Raises Unavailable."""
        with mapped_errors():
            try:
                entry = await self._bucket.get(name)
            except KeyNotFoundError:
                return None, 0
        return msgspec.json.decode(entry.value or b"", type=Claim), entry.revision or 0

    async def put(self, name: str, claim: Claim, revision: int) -> int:
        """Store over `revision`; the new one. Raises Conflict where somebody else was first, Unavailable."""
        with mapped_errors():
            return await self._bucket.update(name, msgspec.json.encode(claim), last=revision)

    async def forget(self, name: str) -> None:
        """Raises Unavailable."""
        with mapped_errors():
            key = KV_KEY.format(IDEMPOTENCY_BUCKET, name)
            await self._js.purge_stream(KV_STREAM.format(IDEMPOTENCY_BUCKET), subject=key)
