"""The bytes of an upload while they arrive: their limit, and a client that stops to send."""

from collections.abc import AsyncIterable, AsyncIterator

from schemas.errors import ErrorCode, RequestError

AUDIO_FIELD = "audio"
"""The field of a form that is the audio."""


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


async def arriving(body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield the pieces of a body. Raises RequestError `upload_incomplete` where the client sends nothing for too long."""
    pieces = aiter(body)
    while True:
        try:
            piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise RequestError(ErrorCode.UPLOAD_INCOMPLETE, "The upload stalled.") from error
        yield piece
