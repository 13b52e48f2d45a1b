"""One object of the store, read into a file, and what is said where that is not possible."""

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
"""So much is gathered before a hop to a thread that hashes and writes it."""
IDLE_TIMEOUT_SECS = 30.0
"""No chunk for so long means that the server is gone."""
READS = 2
"""An object is damaged when it was read so often and never matched: what came over a bad connection says nothing."""


class ObjectReader:
    def __init__(self, js: JetStreamContext, stream: str, chunks: str, info: ObjectMeta) -> None:
        """`chunks` is the subject that the object's chunks are on."""
        self._js, self._stream, self._chunks, self._info = js, stream, chunks, info

    async def write_to(self, path: Path) -> int:
        """Write the object's bytes to `path`; their count.

        Raises ObjectMissing where the store says that chunks are missing, ObjectCorrupt, Unavailable; OSError where the
        file cannot be written.
        """
        info = self._info
        for _ in range(READS):
            size, found = await self._read(path)
            if size == info.size and (info.digest or found).rstrip("=") == found.rstrip("="):
                return size
        raise ObjectCorrupt(f"the object {info.name} does not match its digest ({size} of {info.size} bytes)")

    async def _read(self, path: Path) -> tuple[int, str]:
        """Size and digest of what was found."""
        await self._check_chunks()
        with path.open("wb") as file:
            digest = await unless(self._copy(file), reconnected(self._js))
            if digest is None:  # the consumer may be gone with the connection, and nobody says so
                raise Unavailable(f"the connection was lost while {self._info.name} was read")
            return file.tell(), digest_text(digest)

    async def _check_chunks(self) -> None:
        """Are all there? Only the store knows: that none comes for a while says nothing."""
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
    """A SHA-256 as the object store writes it."""
    return "SHA-256=" + base64.urlsafe_b64encode(digest.digest()).decode()
