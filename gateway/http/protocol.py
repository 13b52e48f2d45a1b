"""HTTP/1.1 as this gateway serves it: errors before there is a request for Quart, and errors that Quart does not handle.

hypercorn answers malformed HTTP with an empty body, and Quart answers an unusable target or Host header with an empty 500. Here
both become problem+json like every other error. Offers to change to another protocol (WebSockets, HTTP/2 in the clear) are
ignored, as HTTP allows: nothing is served over them, and a mistake there would cut the connection without an answer.
"""

from http import HTTPStatus
from urllib.parse import urlsplit

import h11
import hypercorn.protocol
import msgspec
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Response
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    HTTPResponseBodyEvent,
    HTTPResponseStartEvent,
    Scope,
)
from werkzeug.exceptions import HTTPException

from gateway.http.continuing import Inviting, PatientConnection
from schemas.errors import ErrorCode, Problem, RequestError

PROBLEM_JSON = "application/problem+json"
"""Media type of errors (RFC 9457)."""


class PlainProtocol(H11Protocol):
    """HTTP/1.1 alone, with a problem as the answer to anything else, and `100 Continue` when the body is wanted."""

    _is_cut = False
    """Whether the connection has ended within a body."""

    async def initiate(self) -> None:
        """Begin a connection."""
        await super().initiate()
        self.connection = PatientConnection(
            h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size
        )
        self.app = Inviting(self.app, self._is_waiting, self._invite)

    def _is_waiting(self) -> bool:
        """Whether the client of the present request waits for `100 Continue`."""
        connection = self.connection
        return isinstance(connection, PatientConnection) and connection.client_is_waiting_for_100_continue

    async def _invite(self) -> None:
        await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what the application says. The connection ends with the answer to a client that waits for something else."""
        if isinstance(event, Response) and self._is_waiting():
            event.headers.append((b"connection", b"close"))
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Do nothing where hypercorn would change to HTTP/2."""

    async def _create_stream(self, request: h11.Request) -> None:
        await super()._create_stream(
            h11.Request(
                method=request.method,
                target=request.target,
                http_version=request.http_version,
                headers=[(name, value) for name, value in request.headers if name != b"upgrade"],
            )
        )

    async def handle(self, event: Event) -> None:
        """Take what comes from the connection."""
        within_body = self.connection.their_state is h11.SEND_BODY
        if isinstance(event, Closed) and within_body:
            # The client may still listen. hypercorn tells h11 of an end only where it does not come together with data.
            await self.handle(RawData(b""))
        elif isinstance(event, RawData) and not event.data:
            self._is_cut = within_body
        await super().handle(event)

    async def _send_error_response(self, status_code: int) -> None:
        # RFC 9112 has 501 for an unknown transfer coding; it is the client's fault all the same.
        status = HTTPStatus(status_code if 400 <= status_code < 500 else 400)
        problem = Problem(
            title=status.phrase,
            status=status,
            detail=status.description or "This is no HTTP request that can be understood.",
            code=ErrorCode.INVALID_REQUEST,
        )
        if self._is_cut:
            detail = "The upload ended before the body did."
            problem = RequestError(ErrorCode.UPLOAD_INCOMPLETE, detail).problem()
        body = msgspec.json.encode(problem)
        headers = [*_headers(body), *self.config.response_headers("h11")]
        await self._send_h11_event(h11.Response(status_code=status, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


def install() -> None:
    """Make hypercorn use PlainProtocol. There is no setting for it, but one name in its module."""
    hypercorn.protocol.H11Protocol = PlainProtocol  # type: ignore[attr-defined] # for whom it is no part of the interface


class Net:
    """Wraps the application, and answers with a problem where it cannot even begin."""

    def __init__(self, app: ASGIFramework) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(event: ASGISendEvent) -> None:
            nonlocal begun
            begun = True
            await send(event)

        try:
            scope["path"] = _path(scope["path"])
            await self._app(scope, receive, watched)
        except RequestError as error:
            await _answer(error, send)
        except HTTPException as error:
            if begun:
                raise
            await _answer(RequestError(ErrorCode.INVALID_REQUEST, error.description or error.name), send)


def _path(target: str) -> str:
    """Of a request's target, which may be a URL (RFC 9112, 3.2.2). Raises RequestError."""
    if target.startswith("/"):
        return target
    try:
        parts = urlsplit(target)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https"):
        raise RequestError(ErrorCode.NOT_FOUND, "The target of a request must be a path or a URL.")
    return parts.path or "/"


async def _answer(error: RequestError, send: ASGISendCallable) -> None:
    problem = error.problem()
    body = msgspec.json.encode(problem)
    headers = _headers(body)
    await send(HTTPResponseStartEvent(type="http.response.start", status=problem.status, headers=headers))
    await send(HTTPResponseBodyEvent(type="http.response.body", body=body, more_body=False))


def _headers(body: bytes) -> list[tuple[bytes, bytes]]:
    """Of a problem behind which nothing more is read."""
    return [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
