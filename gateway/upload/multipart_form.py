"""Reads a multipart form whose `audio` part is streamed on while it arrives: no temporary file, flat memory.

werkzeug's sans-I/O decoder is not used: where the input is cut within two bytes behind a boundary, it appends a CR to the previous
part or loses the form (werkzeug 3.1.9, found by tests/unit/test_upload.py; docs/adr/0005).
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import msgspec
from multipart import MultipartError, MultipartSegment, PushMultipartParser

from gateway.upload import disposition
from gateway.upload.kind import OCTETS, boundary, is_media
from gateway.upload.pieces import AUDIO_FIELD, arriving
from schemas.errors import ErrorCode, RequestError

MAX_FIELD_BYTES = 64 * 1024
"""Limit of all fields together that are not audio."""
MAX_PARTS = 100
"""Limit of the number of parts of a form."""
HEADER_CHARSET = "latin-1"
"""Every byte is a character of it, so that a name in whatever charset does not end the form; disposition.py decodes names."""

Sink = Callable[[dict[str, str], str | None, AsyncIterator[bytes]], Awaitable[None]]
"""Receives the fields before the audio, its file name, and its bytes, of which it must read all."""

# The package multipart has no types. This is MultipartSegment | bytes | bytearray | None.
Event: TypeAlias = Any
"""An event of the parser: a part begins, a piece of it, its end."""


class Form(msgspec.Struct, kw_only=True, frozen=True):
    """A form that was read to its end."""

    fields: dict[str, str]
    filename: str | None


class _Parser(PushMultipartParser):  # type: ignore[misc] # of the package without types
    """Takes a part of an audio type also where its Content-Disposition is missing or of another kind than form-data."""

    def _create_segment(self, headers: list[tuple[str, str]]) -> Any:
        segment = MultipartSegment(headers)
        if segment.disposition != "form-data" and _tells_audio(segment):
            return segment
        return super()._create_segment(headers)


async def receive(body: AsyncIterable[bytes], content_type: str, sink: Sink) -> Form:
    """Read the whole form and pass the audio to `sink` as it arrives. Raises RequestError, and what `sink` raises."""
    parser = _Parser(boundary(content_type), max_segment_count=MAX_PARTS, header_charset=HEADER_CHARSET)
    events = _events(body, parser)
    fields: dict[str, str] = {}
    found, filename, size = False, None, 0
    async for event in events:
        if not isinstance(event, MultipartSegment):
            continue
        part = disposition.parse(event.header("Content-Disposition", ""))
        if _is_audio(part, event) and not found:
            found, filename = True, part.filename or None
            await sink(dict(fields), filename, _part(events))
        elif part.is_file or _is_audio(part, event) or (part.name == AUDIO_FIELD and found):
            detail = f"There must be one file, named `{AUDIO_FIELD}`."
            raise RequestError(ErrorCode.INVALID_REQUEST, detail, part.name)
        elif part.name == AUDIO_FIELD:
            detail = "The audio must be a file, not text: `-F audio=@file` with the @."
            raise RequestError(ErrorCode.MISSING_AUDIO, detail, AUDIO_FIELD)
        else:
            fields[part.name] = value = await _text(part.name, _part(events), MAX_FIELD_BYTES - size)
            size += len(value)
    if not found:
        raise RequestError(
            ErrorCode.MISSING_AUDIO, f"The form has no file named `{AUDIO_FIELD}`.", AUDIO_FIELD
        )
    return Form(fields=fields, filename=filename)


def _is_audio(part: disposition.Disposition, segment: Event) -> bool:
    """Whether a part is the audio: by its name, or by its type where it has no name."""
    if part.name == AUDIO_FIELD:
        return part.is_file or is_media(segment.content_type or "")
    return not part.name and _tells_audio(segment)


def _tells_audio(segment: Event) -> bool:
    """Whether a part says by its type that it is audio. `application/octet-stream` says it only of a file with a name."""
    kind = segment.content_type or ""
    if kind == OCTETS:
        return disposition.parse(segment.header("Content-Disposition", "")).is_file
    return is_media(kind)


async def _events(body: AsyncIterable[bytes], parser: _Parser) -> AsyncIterator[Event]:
    """Yield the events of the form. Raises RequestError where it is malformed or cut off."""
    try:
        async for piece in arriving(body):
            for event in parser.parse(piece):
                yield event
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
