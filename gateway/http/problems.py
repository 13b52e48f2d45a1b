"""Exceptions to problem+json (RFC 9457)."""

import logging

import msgspec
from quart import Quart, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from broker.errors import BrokerError
from gateway.http.protocol import PROBLEM_JSON
from gateway.operations.broker_problem import broker_problem
from schemas.errors import ErrorCode, RequestError

log = logging.getLogger(__name__)

_BY_STATUS = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED}


def problem_response(error: RequestError) -> Response:
    """Return the HTTP response of an error."""
    problem = error.problem()
    body = msgspec.json.encode(problem)
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE:
        # RFC 9110, 15.5.16: how the body should have been coded, for a client that has compressed it.
        headers["Accept-Encoding"] = "identity"
    return Response(body, problem.status, headers, content_type=PROBLEM_JSON)


def install(app: Quart) -> None:
    """Make the application answer every exception with a problem."""

    @app.errorhandler(RequestError)
    async def bad_request(error: RequestError) -> Response:
        return problem_response(error)

    @app.errorhandler(BrokerError)
    async def broker_trouble(error: BrokerError) -> Response:
        log.warning("broker: %s", error)
        return problem_response(broker_problem(error))

    @app.errorhandler(HTTPException)
    async def from_framework(error: HTTPException) -> Response:
        code = _BY_STATUS.get(error.code or 500, ErrorCode.INVALID_REQUEST)
        response = problem_response(RequestError(code, error.description or error.name))
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(Exception)
    async def unexpected(error: Exception) -> Response:
        log.error("unexpected error", exc_info=error)
        return problem_response(
            RequestError(ErrorCode.INTERNAL, "An unexpected error; the log has the details.")
        )
