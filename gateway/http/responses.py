"""What routes answer with, JSON and event streams, and small readers of the query and headers."""

from collections.abc import AsyncIterator

import msgspec
from quart import Response, request

from gateway.streaming import sse

TRUE = frozenset({"1", "true", "yes"})


def json_response(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a struct of schemas/ as JSON."""
    return Response(msgspec.json.encode(body), status, headers, content_type="application/json")


def event_stream(frames: AsyncIterator[bytes]) -> Response:
    """Return a response that sends server-sent events until `frames` ends."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    response = Response(frames, headers=headers, content_type="text/event-stream")
    response.timeout = None
    return response


def resume_after() -> int:
    """Return the stream sequence behind which this request wants to go on; 0 for the beginning."""
    return sse.last_event_id(request.headers.get("Last-Event-ID") or request.args.get("last_event_id"))


def is_true(argument: str | None) -> bool:
    """Whether a flag of the query is set, as in `?force=true`."""
    return (argument or "").lower() in TRUE
