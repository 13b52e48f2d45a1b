"""A key-value bucket whose values are structs of schemas/: the one place that reads and writes `$KV` subjects.

A value that cannot be read counts as missing, but keeps its revision, so that the next write replaces it.
"""

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, TypeVar

import msgspec
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from broker.error_mapping import mapped_errors
from broker.reading import usable
from broker.scanning import KV_OPERATION, scan
from broker.stream_info import stream_info
from schemas.subjects import kv_key, kv_stream

T = TypeVar("T")


class Entry(msgspec.Struct, Generic[T], kw_only=True, frozen=True):
    """What a bucket has under a key."""

    value: T | None = None
    """None where there is nothing, or nothing that can be read."""
    revision: int = 0
    """What the next write must replace; 0 where the key was never written."""
    is_there: bool = False
    """Whether the key exists, also with a value that cannot be read. False for a key that was deleted."""
    stored_at: datetime | None = None
    """When it was written, by the server's clock. Only `get_from_leader` tells it."""


class Bucket(Generic[T]):
    """One bucket. Its stream is declared in broker/topology."""

    def __init__(
        self, js: JetStreamContext, name: str, keys: KeyValue, read: Callable[[str, bytes], T]
    ) -> None:
        self._js, self._name, self._keys, self._read = js, name, keys, read
        self._stream = kv_stream(name)

    @classmethod
    async def open(cls, js: JetStreamContext, name: str, read: Callable[[str, bytes], T]) -> "Bucket[T]":
        """`read` makes a value of a key and a body; it raises schemas.inputs.Unreadable. Raises Unavailable."""
        with mapped_errors():
            return cls(js, name, await js.key_value(name), read)

    async def get(self, key: str) -> Entry[T]:
        """Return what is under a key. Raises Unavailable."""
        with mapped_errors():
            try:
                found = await self._keys.get(key)
            except KeyNotFoundError as error:
                # A deleted key has left a marker, which has a revision.
                return Entry(revision=(error.entry.revision or 0) if error.entry is not None else 0)
        return self._entry(key, found.revision or 0, found.value or b"", None)

    async def get_from_leader(self, key: str) -> Entry[T]:
        """Return what is under a key as the leader of the stream has it: a replica may be behind. Raises Unavailable."""
        with mapped_errors():
            try:
                found = await self._js.get_msg(self._stream, subject=kv_key(self._name, key))
            except NotFoundError:
                return Entry()
        revision = found.seq or 0
        if KV_OPERATION in (found.headers or {}):
            return Entry(revision=revision, stored_at=found.time)
        return self._entry(key, revision, found.data or b"", found.time)

    async def create(self, key: str, value: T) -> int:
        """Write a key that does not exist, and return its revision. Raises Conflict where it exists, Unavailable."""
        with mapped_errors():
            return await self._keys.create(key, msgspec.json.encode(value))

    async def update(self, key: str, value: T, revision: int) -> int:
        """Replace the entry with this revision, and return the new one. Raises Conflict where it has another, Unavailable."""
        with mapped_errors():
            return await self._keys.update(key, msgspec.json.encode(value), last=revision)

    async def put(self, key: str, value: T) -> None:
        """Write a key whatever is there. Raises Unavailable."""
        with mapped_errors():
            await self._keys.put(key, msgspec.json.encode(value))

    async def delete(self, key: str, revision: int) -> None:
        """Delete the entry with this revision; a marker stays. Raises Conflict where it has another, Unavailable."""
        with mapped_errors():
            await self._keys.delete(key, last=revision)

    async def purge(self, key: str) -> None:
        """Remove a key, without a marker. Idempotent. Raises Unavailable."""
        with mapped_errors():
            await self._js.purge_stream(self._stream, subject=kv_key(self._name, key))

    async def values(self) -> AsyncIterator[T]:
        """Yield every value that can be read, in the order of writing. Raises Unavailable."""
        async for stored in scan(self._js, self._stream, kv_key(self._name, ">")):
            key = stored.subject.removeprefix(kv_key(self._name, ""))
            value = usable(partial(self._read, key), stored.subject, stored.seq, stored.body)
            if value is not None:
                yield value

    async def age(self, revision: int) -> timedelta:
        """Return how long ago the entry with this revision was written, by the server's clock. Raises Unavailable.

        The clocks of two gateways may differ, so that neither of them is used.
        """
        with mapped_errors():
            try:
                found = await self._js.get_msg(self._stream, seq=revision)
            except NotFoundError:
                # Somebody has written over it this moment.
                return timedelta()
        now = (await stream_info(self._js, self._stream)).ts
        return now - (found.time or now)

    def _entry(self, key: str, revision: int, body: bytes, stored_at: datetime | None) -> Entry[T]:
        value = usable(partial(self._read, key), kv_key(self._name, key), revision, body)
        return Entry(value=value, revision=revision, is_there=True, stored_at=stored_at)
