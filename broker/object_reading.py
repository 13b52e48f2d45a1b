"""Reads one object of the store into a file, and checks that it is whole."""

import asyncio
import base64
import hashlib
from pathlib import Path
from typing import BinaryIO

from nats.js import JetStreamContext
from nats.js.client import JetStreamContext as _Js

from broker.connection import reconnected
from broker.error_mapping import mapped_errors
from broker.errors import ObjectCorrupt, ObjectMissing, Unavailable
from process.racing import unless
from schemas.inputs import ObjectMeta

WRITE_BATCH_BYTES = 4 * 1024 * 1024
"""Bytes that are collected before a thread hashes and writes them."""
IDLE_TIMEOUT_SECS = 30.0
"""After this time without a chunk the server counts as gone."""
READS = 2
"""How often an object is read before it counts as damaged: one bad read may be the fault of the connection."""


class ObjectReader:
    """Reads one object."""

    def __init__(self, js: JetStreamContext, stream: str, chunks: str, info: ObjectMeta) -> None:
        """`chunks` is the subject of the object's chunks."""
        self._js, self._stream, self._chunks, self._info = js, stream, chunks, info

    async def write_to(self, path: Path) -> int:
        """Write the object's bytes to `path`, and return how many they are.

        Raises ObjectMissing where chunks are missing; ObjectCorrupt; Unavailable; OSError where the file cannot be written.
        """
        info = self._info
        for _ in range(READS):
            size, found = await self._read(path)
            if size == info.size and (info.digest or found).rstrip("=") == found.rstrip("="):
                return size
        raise ObjectCorrupt(f"the object {info.name} does not match its digest ({size} of {info.size} bytes)")

    async def _read(self, path: Path) -> tuple[int, str]:
        """Read once. Returns size and digest of the bytes that came."""
        await self._check_chunks()
        with path.open("wb") as file:
            digest = await unless(self._copy(file), reconnected(self._js))
            # The consumer may be gone with the connection, which nothing reports.
            if digest is None:
                raise Unavailable(f"the connection was lost while {self._info.name} was read")
            return file.tell(), digest_text(digest)

    async def _check_chunks(self) -> None:
        """Check that all chunks are stored. Raises ObjectMissing.

        Only the stream can say that: a pause between chunks means nothing.
        """
        with mapped_errors():
            stream = await self._js.stream_info(self._stream, subjects_filter=self._chunks)
        stored = (stream.state.subjects or {}).get(self._chunks, 0)
        if stored < self._info.chunks:
            raise ObjectMissing(f"{stored} of the {self._info.chunks} chunks of {self._info.name} are stored")

    async def _copy(self, file: BinaryIO) -> "hashlib._Hash":
        digest, batch, batched, received = hashlib.sha256(), [], 0, 0

        def flush(parts: list[bytes]) -> None:
            for part in parts:
                digest.update(part)
            file.writelines(parts)

        if not self._info.size:
            return digest
        with mapped_errors():
            sub: _Js.PushSubscription = await self._js.subscribe(
                self._chunks, stream=self._stream, ordered_consumer=True
            )
        try:
            pending = 1
            while received < self._info.size and pending:
                with mapped_errors():
                    message = await sub.next_msg(timeout=IDLE_TIMEOUT_SECS)
                pending = message.metadata.num_pending
                batch.append(message.data)
                batched, received = batched + len(message.data), received + len(message.data)
                if batched >= WRITE_BATCH_BYTES:
                    await asyncio.to_thread(flush, batch)
                    batch, batched = [], 0
        finally:
            with mapped_errors():
                await sub.unsubscribe()
        await asyncio.to_thread(flush, batch)
        return digest


def digest_text(digest: "hashlib._Hash") -> str:
    """Return a SHA-256 as the object store writes it."""
    return "SHA-256=" + base64.urlsafe_b64encode(digest.digest()).decode()
