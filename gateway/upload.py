"""A multipart form whose `audio` part streams into the audio store while it arrives. No temporary file, flat memory."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

import msgspec
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from schemas.errors import ErrorCode, RequestError

AUDIO_FIELD = "audio"
MAX_FIELD_BYTES = 64 * 1024
"""Of all fields that are not audio, together."""
MAX_PARTS = 100

Sink = Callable[[dict[str, str], str | None, AsyncIterator[bytes]], Awaitable[None]]
"""Gets the fields before the audio, its file name, its bytes; must take all of them."""


class Upload(msgspec.Struct, kw_only=True, frozen=True):
    fields: dict[str, str]
    filename: str | None


def boundary(content_type: str) -> bytes:
    """The boundary of a multipart form. Raises RequestError for any other content type."""
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data" or not options.get("boundary"):
        detail = "Send the audio as multipart/form-data with a field `audio`, as `curl -F audio=@file` does."
        raise RequestError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, detail)
    return options["boundary"].encode("latin-1")


async def receive(body: AsyncIterable[bytes], content_type: str, sink: Sink) -> Upload:
    """Read the whole form; the audio goes to `sink` as it comes. Raises RequestError and what `sink` raises."""
    events = _events(body, MultipartDecoder(boundary(content_type), max_parts=MAX_PARTS))
    fields: dict[str, str] = {}
    found, filename, size = False, None, 0
    async for event in events:
        match event:
            case File(name=name) if name == AUDIO_FIELD and not found:
                found, filename = True, event.filename or None
                await sink(dict(fields), filename, _part(events))
            case File(name=name):
                detail = f"There must be one file, named `{AUDIO_FIELD}`."
                raise RequestError(ErrorCode.INVALID_REQUEST, detail, name)
            case Field(name=name):
                if name == AUDIO_FIELD:
                    detail = "The audio must be a file, not text: `-F audio=@file` with the @."
                    raise RequestError(ErrorCode.MISSING_AUDIO, detail, AUDIO_FIELD)
                value = await _text(name, _part(events), MAX_FIELD_BYTES - size)
                size += len(value)
                fields[name] = value
            case _:
                pass
    if not found:
        raise RequestError(
            ErrorCode.MISSING_AUDIO, f"The form has no file named `{AUDIO_FIELD}`.", AUDIO_FIELD
        )
    return Upload(fields=fields, filename=filename)


async def _events(body: AsyncIterable[bytes], decoder: MultipartDecoder) -> AsyncIterator[Event]:
    """The form's events up to its end. Raises RequestError if it has none."""
    try:
        async for piece in body:
            decoder.receive_data(piece)
            while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
                yield event
    except TimeoutError as error:
        raise RequestError(ErrorCode.UPLOAD_INCOMPLETE, "The upload stalled.") from error
    except (ValueError, RequestEntityTooLarge) as error:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"The form is malformed: {error}.") from error
    try:
        decoder.receive_data(None)
        decoder.next_event()
    except ValueError as error:
        detail = "The upload ended before the form did."
        raise RequestError(ErrorCode.UPLOAD_INCOMPLETE, detail) from error


async def _part(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """The bytes of the part that has just begun."""
    async for event in events:
        if isinstance(event, Data):
            if event.data:
                yield event.data
            if not event.more_data:
                return


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
