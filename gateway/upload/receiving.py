"""Reads an upload of either kind: a multipart form, or a body that is the audio and nothing else."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping

import msgspec

from gateway.upload import disposition, multipart_form
from gateway.upload.kind import FORM, media_type
from gateway.upload.pieces import AUDIO_FIELD, arriving
from gateway.upload.query import together
from schemas.errors import ErrorCode, RequestError


class Incoming(msgspec.Struct, kw_only=True, frozen=True):
    """An upload as it comes from a client. Its headers and its query were checked (kind.check_body, query.options_of)."""

    content_type: str
    """The whole header, with the boundary."""
    content_length: int | None
    """Bytes; None where the client does not say."""
    body: AsyncIterable[bytes]
    """The pieces of the body as they arrive. They can be read once."""
    query: Mapping[str, str] = {}
    """The options in the query, without empty ones."""
    disposition: str = ""
    """The header Content-Disposition, which may name the file of a body that is no form."""


class Upload(msgspec.Struct, kw_only=True, frozen=True):
    """An upload that was read to its end."""

    fields: dict[str, str]
    """The options of form and query together."""
    filename: str | None


Sink = Callable[[dict[str, str], str | None, AsyncIterator[bytes]], Awaitable[None]]
"""Receives the options before the audio, its file name, and its bytes, of which it must read all."""


async def receive(incoming: Incoming, sink: Sink) -> Upload:
    """Read an upload and pass the audio to `sink` as it arrives. Raises RequestError, and what `sink` raises."""
    if media_type(incoming.content_type) != FORM:
        return await _receive_audio(incoming, sink)

    async def with_query(fields: dict[str, str], filename: str | None, audio: AsyncIterator[bytes]) -> None:
        await sink(*together(fields, incoming.query, filename), audio)

    form = await multipart_form.receive(incoming.body, incoming.content_type, with_query)
    fields, filename = together(form.fields, incoming.query, form.filename)
    return Upload(fields=fields, filename=filename)


async def _receive_audio(incoming: Incoming, sink: Sink) -> Upload:
    named = disposition.parse(incoming.disposition).filename
    fields, filename = together({}, incoming.query, named)
    pieces = arriving(incoming.body)
    # Nothing is stored of a body that turns out to be empty.
    async for first in pieces:
        if first:
            await sink(fields, filename, _again(first, pieces))
            return Upload(fields=fields, filename=filename)
    raise RequestError(ErrorCode.MISSING_AUDIO, "The body is empty: it should be the audio.", AUDIO_FIELD)


async def _again(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
