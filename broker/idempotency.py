"""Which upload has which idempotency key: claims in a bucket, taken by compare-and-set."""

from datetime import timedelta
from typing import Self

from nats.js import JetStreamContext

from broker.bucket import Bucket
from broker.errors import Conflict
from schemas.idempotency import Claim
from schemas.inputs import CLAIM
from schemas.subjects import IDEMPOTENCY_BUCKET


class IdempotencyKeys:
    """The bucket WHISPER_IDEMPOTENCY. Its keys are those of schemas.idempotency.entry_name."""

    def __init__(self, bucket: Bucket[Claim]) -> None:
        self._bucket = bucket

    @classmethod
    async def open(cls, js: JetStreamContext) -> Self:
        """Raises Unavailable."""
        return cls(await Bucket.open(js, IDEMPOTENCY_BUCKET, lambda _key, body: CLAIM.read(body)))

    async def get(self, name: str) -> tuple[Claim | None, int]:
        """Return the claim and its revision, which is 0 where there is none. Raises Unavailable.

        A claim that cannot be read, or was given up, is None with the revision that the next one must replace.
        """
        entry = await self._bucket.get(name)
        return entry.value, entry.revision

    async def age(self, revision: int) -> timedelta:
        """Return how long ago an entry was written, by the clock of nats-server. Raises Unavailable."""
        return await self._bucket.age(revision)

    async def put(self, name: str, claim: Claim, revision: int) -> int:
        """Replace the entry with this revision, and return the new one. Raises Conflict, Unavailable."""
        return await self._bucket.update(name, claim, revision)

    async def give_up(self, name: str, revision: int) -> None:
        """Free a key that still has this revision; one that another gateway holds by now stays. Raises Unavailable."""
        try:
            await self._bucket.delete(name, revision)
        except Conflict:
            return
