"""Who has used which idempotency key: claims in key-value, taken by compare-and-set."""

from datetime import UTC, datetime, timedelta

import msgspec
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from broker.connection import mapped_errors
from broker.errors import Conflict
from broker.reading import usable
from broker.topology.declared import KV_KEY, KV_STREAM
from schemas.idempotency import Claim
from schemas.inputs import CLAIM
from schemas.subjects import IDEMPOTENCY_BUCKET

API_SECS = 5.0


class IdempotencyKeys:
    def __init__(self, js: JetStreamContext, bucket: KeyValue) -> None:
        self._js, self._bucket = js, bucket

    @classmethod
    async def open(cls, js: JetStreamContext) -> "IdempotencyKeys":
        with mapped_errors():
            return cls(js, await js.key_value(IDEMPOTENCY_BUCKET))

    async def get(self, name: str) -> tuple[Claim | None, int]:
        """The claim and its revision, 0 where there is none. Raises Unavailable.

        A claim that cannot be used, or was given up, is none, but has a revision that the next is written over.
        """
        with mapped_errors():
            try:
                entry = await self._bucket.get(name)
            except KeyNotFoundError as error:
                return None, (error.entry.revision or 0) if error.entry is not None else 0
        place, revision = KV_KEY.format(IDEMPOTENCY_BUCKET, name), entry.revision or 0
        return usable(CLAIM.read, place, revision, entry.value or b""), revision

    async def age(self, revision: int) -> timedelta:
        """How long ago an entry was written, by the clock of nats-server alone: those of two gateways may differ.

        Raises Unavailable.
        """
        stream = KV_STREAM.format(IDEMPOTENCY_BUCKET)
        with mapped_errors():
            try:
                entry = await self._js.get_msg(stream, seq=revision)
            except NotFoundError:  # it was written over this moment
                return timedelta()
            info = await self._js._api_request(f"{self._js._prefix}.STREAM.INFO.{stream}", timeout=API_SECS)
        return datetime.fromisoformat(str(info["ts"])) - (entry.time or datetime.now(UTC))

    async def put(self, name: str, claim: Claim, revision: int) -> int:
        """Store over `revision`; the new one. Raises Conflict where somebody else was first, Unavailable."""
        with mapped_errors():
            return await self._bucket.update(name, msgspec.json.encode(claim), last=revision)

    async def give_up(self, name: str, revision: int) -> None:
        """Free a key that is still at `revision`: one that another gateway holds by now stays. Raises Unavailable."""
        try:
            with mapped_errors():
                await self._bucket.delete(name, last=revision)
        except Conflict:
            return
