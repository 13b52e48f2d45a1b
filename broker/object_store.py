"""JetStream's object store: objects are streamed in from an async source, and out into a file.

It is written by hand on the layout of NATS ADR-20, because nats-py's `put` takes no async source and awaits each chunk, and its `get`
uses a thread for each chunk: 113-200 and 49-58 MiB/s, against 390-490 and 290-540 here (docs/adr/0003). The `nats` command and nats-py
read and write the same objects, which tests prove in both directions.
"""

import asyncio
import base64
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec
from nats.js import JetStreamContext
from nats.js.api import Header, ObjectInfo, ObjectMetaOptions
from nats.js.errors import NotFoundError

from broker.error_mapping import mapped_errors
from broker.errors import BrokerError, ObjectMissing
from broker.object_reading import ObjectReader, digest_text
from broker.pipeline import Pipeline, pipeline
from broker.reading import usable
from broker.scanning import Stored, scan
from schemas import subjects
from schemas.inputs import OBJECT_META, ObjectMeta
from schemas.model import Room

log = logging.getLogger(__name__)

CHUNK_BYTES = 128 * 1024
"""Size of a chunk, as by default in nats-py and the Go client."""
CHUNKS_IN_FLIGHT = 64
"""Unacknowledged chunks of one upload: 8 MiB. More is not faster, and costs memory."""
DISCARD_SECS = 5.0
"""How long a broken upload waits for acknowledgements before its purge. Chunks that are stored later are swept."""
IDLE_TIMEOUT_SECS = 30.0
"""After this time without an acknowledgement the server counts as gone."""

T = TypeVar("T")


class StoredObject(msgspec.Struct, kw_only=True, frozen=True):
    """An object that was stored."""

    name: str
    size: int
    """Bytes."""
    digest: str
    """As `digest_text` writes it."""


class ObjectStore:
    """One object bucket, which broker/topology has created."""

    def __init__(self, js: JetStreamContext, bucket: str) -> None:
        self._js, self._bucket, self._stream = js, bucket, subjects.object_stream(bucket)

    async def put(self, name: str, source: AsyncIterator[bytes]) -> StoredObject:
        """Store all bytes of `source`. If that fails or is cancelled, nothing of it stays.

        Raises StorageFull as soon as a chunk is refused, also while `source` waits; Refused; Unavailable; and what `source`
        raises.
        """
        nuid = self._js._nc._nuid.next().decode()
        async with pipeline(self._js._nc, CHUNKS_IN_FLIGHT) as pipe:
            try:
                async with pipe.watched(self._probe):
                    return await self._send(pipe, nuid, name, source)
            except BaseException:
                await _finish(self._discard(nuid, pipe))
                raise

    async def _send(self, pipe: Pipeline, nuid: str, name: str, source: AsyncIterator[bytes]) -> StoredObject:
        digest, size, chunks = hashlib.sha256(), 0, 0
        async for chunk in _exact_chunks(source):
            digest.update(chunk)
            size, chunks = size + len(chunk), chunks + 1
            await pipe.publish(self._chunks(nuid), chunk, IDLE_TIMEOUT_SECS)
        await pipe.all_stored(IDLE_TIMEOUT_SECS)
        info = ObjectInfo(
            name=name,
            bucket=self._bucket,
            nuid=nuid,
            size=size,
            chunks=chunks,
            mtime=datetime.now(UTC).isoformat(),
            digest=digest_text(digest),
            options=ObjectMetaOptions(max_chunk_size=CHUNK_BYTES),
        )
        with mapped_errors():
            body = json.dumps(info.as_dict()).encode()
            await self._js.publish(self._meta(name), body, headers={Header.ROLLUP: "sub"})
        return StoredObject(name=name, size=size, digest=str(info.digest))

    async def get_to_file(self, name: str, path: Path) -> int:
        """Write an object to `path`, and return its size in bytes. Raises ObjectMissing, ObjectCorrupt, Unavailable, OSError."""
        info = await self._info(name)
        return await ObjectReader(self._js, self._stream, self._chunks(info.nuid), info).write_to(path)

    async def delete(self, name: str) -> None:
        """Delete an object. Idempotent. Raises Unavailable."""
        try:
            info = await self._info(name)
        except ObjectMissing:
            return
        with mapped_errors():
            # The meta is deleted last: where nats-server fails in between, the next call finds the rest by it.
            await self._js.purge_stream(self._stream, subject=self._chunks(info.nuid))
            await self._js.purge_stream(self._stream, subject=self._meta(name))

    async def digest(self, name: str) -> str | None:
        """Return the digest of an object, as `digest_text` writes it; None where there is no such object. Raises Unavailable."""
        try:
            return (await self._info(name)).digest
        except ObjectMissing:
            return None

    async def objects(self) -> list[tuple[ObjectMeta, datetime]]:
        """Return all objects, each with the time when it was stored. Raises Unavailable.

        Metas that cannot be used, or that belong to another object, are left out.
        """
        return [(meta, stored.time) async for stored, meta in self._metas() if meta is not None]

    async def room(self) -> Room:
        """Return how full the bucket is. Raises Unavailable."""
        with mapped_errors():
            info = await self._js.stream_info(self._stream)
        limit = info.config.max_bytes or 0
        return Room(used=info.state.bytes, limit=limit if limit > 0 else None)

    async def sweep(self, older_than: datetime) -> int:
        """Delete what belongs to no object and has not changed since `older_than`: chunks of broken uploads, unusable metas.

        Returns the number of deleted subjects. Raises Unavailable.
        """
        known, orphans = set[str](), set[str]()
        async for stored, meta in self._metas():
            if meta is not None:
                known.add(self._chunks(meta.nuid))
            elif stored.time < older_than:
                orphans.add(stored.subject)
        with mapped_errors():
            info = await self._js.stream_info(self._stream, subjects_filter=self._chunks(">"))
        orphans |= set(info.state.subjects or {}) - known
        return sum([await self._sweep(subject, older_than) for subject in orphans if _is_literal(subject)])

    async def _sweep(self, subject: str, older_than: datetime) -> bool:
        with mapped_errors():
            try:
                newest = await self._js.get_last_msg(self._stream, subject)
            except NotFoundError:
                # Another gateway was faster.
                return False
            if newest.time is None or newest.time >= older_than:
                return False
            await self._js.purge_stream(self._stream, subject=subject)
        return True

    async def _metas(self) -> AsyncIterator[tuple[Stored, ObjectMeta | None]]:
        """Yield each stored meta; None in place of one that cannot be used, is of another object, or marks a deletion."""
        async for stored in scan(self._js, self._stream, f"$O.{self._bucket}.M.>"):
            meta = usable(OBJECT_META.read, stored.subject, stored.seq, stored.body)
            is_usable = meta is not None and not meta.deleted and self._meta(meta.name) == stored.subject
            yield stored, meta if is_usable else None

    def _chunks(self, nuid: str) -> str:
        return f"$O.{self._bucket}.C.{nuid}"

    def _meta(self, name: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    async def _info(self, name: str) -> ObjectMeta:
        """Return the meta of an object. Raises ObjectMissing, also for a meta that cannot be used; Unavailable."""
        place = self._meta(name)
        with mapped_errors():
            try:
                stored = await self._js.get_msg(self._stream, subject=place, direct=True)
            except NotFoundError as error:
                raise ObjectMissing(f"there is no object {name!r}") from error
        info = usable(OBJECT_META.read, place, stored.seq or 0, stored.data or b"")
        if info is None or info.deleted or info.name != name:
            raise ObjectMissing(f"there is no object {name!r} that can be used")
        return info

    async def _discard(self, nuid: str, pipe: Pipeline) -> None:
        """Delete the chunks of a broken upload. Acknowledgements are awaited first, because chunks that are still being stored
        would survive the purge."""
        await pipe.settled(DISCARD_SECS)
        try:
            with mapped_errors():
                await self._js.purge_stream(self._stream, subject=self._chunks(nuid))
        except BrokerError as error:
            # The upload has failed already, for a reason of its own.
            log.warning("a broken upload is left to the sweep: %s", error)

    async def _probe(self) -> None:
        """Check that the bucket can be written. Raises StorageFull, Unavailable.

        A purge of a subject without messages changes nothing, and nats-server answers it with the stream's write error.
        """
        with mapped_errors():
            await self._js.purge_stream(
                self._stream, subject=self._chunks(self._js._nc._nuid.next().decode())
            )


async def _exact_chunks(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut pieces of any size into chunks of CHUNK_BYTES. The last chunk may be shorter."""
    buffer = bytearray()
    async for piece in source:
        buffer += piece
        while len(buffer) >= CHUNK_BYTES:
            yield bytes(memoryview(buffer)[:CHUNK_BYTES])
            del buffer[:CHUNK_BYTES]
    if buffer:
        yield bytes(buffer)


async def _finish(work: Awaitable[T]) -> T:
    """Await work to its end, also where the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _is_literal(subject: str) -> bool:
    """Whether a subject has no wildcard: nats-server stores messages with a `*` in their subject."""
    return not {"*", ">"} & set(subject.split("."))
