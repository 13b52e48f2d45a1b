"""Reads a multipart form whose `audio` part is streamed on while it arrives: no temporary file, flat memory.

werkzeug's sans-I/O decoder is not used: where the input is cut within two bytes behind a boundary, it appends a CR to the previous
part or loses the form (werkzeug 3.1.9, found by tests/unit/test_upload.py; docs/adr/0005).
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import msgspec
from multipart import MultipartError, MultipartSegment, PushMultipartParser
from werkzeug.http import parse_options_header

from schemas.errors import ErrorCode, RequestError

AUDIO_FIELD = "audio"
MAX_FIELD_BYTES = 64 * 1024
"""Limit of all fields together that are not audio."""
MAX_PARTS = 100
"""Limit of the number of parts of a form."""
MAX_BOUNDARY_CHARS = 256
"""RFC 2046 allows 70; some clients use more."""

Sink = Callable[[dict[str, str], str | None, AsyncIterator[bytes]], Awaitable[None]]
"""Receives the fields before the audio, its file name, and its bytes, of which it must read all."""

# The package multipart has no types. This is MultipartSegment | bytes | bytearray | None.
Event: TypeAlias = Any
"""An event of the parser: a part begins, a piece of it, its end."""


class Upload(msgspec.Struct, kw_only=True, frozen=True):
    """A form that was read to its end."""

    fields: dict[str, str]
    filename: str | None


def boundary(content_type: str) -> bytes:
    """Return the boundary of a multipart form. Raises RequestError for another content type, and for an unusable boundary."""
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data" or not options.get("boundary"):
        detail = "Send the audio as multipart/form-data with a field `audio`, as `curl -F audio=@file` does."
        raise RequestError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, detail)
    found = options["boundary"]
    if len(found) > MAX_BOUNDARY_CHARS or not (found.isascii() and found.isprintable()):
        detail = f"The boundary must be at most {MAX_BOUNDARY_CHARS} printable ASCII characters."
        raise RequestError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, detail)
    return found.encode()


def within_limit(size: int | None, limit: int) -> None:
    """Check a size. Both are bytes; a limit of 0 is none, a size of None is unknown. Raises RequestError `request_too_large`."""
    if limit and size is not None and size > limit:
        detail = f"An upload may have {limit:,} bytes here (MAX_UPLOAD_BYTES)."
        raise RequestError(ErrorCode.REQUEST_TOO_LARGE, detail, AUDIO_FIELD)


async def limited(audio: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Yield the same pieces up to `limit` bytes, 0 for no limit. Raises RequestError `request_too_large`."""
    size = 0
    async for piece in audio:
        size += len(piece)
        within_limit(size, limit)
        yield piece


async def receive(body: AsyncIterable[bytes], content_type: str, sink: Sink) -> Upload:
    """Read the whole form and pass the audio to `sink` as it arrives. Raises RequestError, and what `sink` raises."""
    events = _events(body, PushMultipartParser(boundary(content_type), max_segment_count=MAX_PARTS))
    fields: dict[str, str] = {}
    found, filename, size = False, None, 0
    async for event in events:
        if not isinstance(event, MultipartSegment):
            continue
        if event.name != AUDIO_FIELD and event.filename is None:
            fields[event.name] = value = await _text(event.name, _part(events), MAX_FIELD_BYTES - size)
            size += len(value)
        elif event.name != AUDIO_FIELD or found:
            detail = f"There must be one file, named `{AUDIO_FIELD}`."
            raise RequestError(ErrorCode.INVALID_REQUEST, detail, event.name)
        elif event.filename is None:
            detail = "The audio must be a file, not text: `-F audio=@file` with the @."
            raise RequestError(ErrorCode.MISSING_AUDIO, detail, AUDIO_FIELD)
        else:
            found, filename = True, event.filename or None
            await sink(dict(fields), filename, _part(events))
    if not found:
        raise RequestError(
            ErrorCode.MISSING_AUDIO, f"The form has no file named `{AUDIO_FIELD}`.", AUDIO_FIELD
        )
    return Upload(fields=fields, filename=filename)


async def _events(body: AsyncIterable[bytes], parser: PushMultipartParser) -> AsyncIterator[Event]:
    """Yield the events of the form. Raises RequestError where it is malformed or cut off."""
    try:
        async for piece in body:
            for event in parser.parse(piece):
                yield event
    except TimeoutError as error:
        raise RequestError(ErrorCode.UPLOAD_INCOMPLETE, "The upload stalled.") from error
    except MultipartError as error:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"The form is malformed: {error.args[0]}.") from error
    try:
        parser.close()
    except MultipartError as error:
        detail = "The upload ended before the form did."
        raise RequestError(ErrorCode.UPLOAD_INCOMPLETE, detail) from error


async def _part(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """Yield the bytes of the part that has just begun."""
    async for event in events:
        if event is None:
            return
        if isinstance(event, bytes | bytearray):
            yield bytes(event)


async def _text(name: str, part: AsyncIterator[bytes], limit: int) -> str:
    value = b""
    async for piece in part:
        value += piece
        if len(value) > limit:
            raise RequestError(ErrorCode.INVALID_REQUEST, "The form's fields are too large.", name)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RequestError(ErrorCode.INVALID_REQUEST, "The field is not UTF-8.", name) from error
