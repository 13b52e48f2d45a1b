"""Options in the query of an upload, `POST /jobs?language=de`: the same names, and the same rules, as in a form. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from schemas.errors import ErrorCode, RequestError
from schemas.submission import request_from_form

FILENAME = "filename"
"""The name of the file, which a body without a form has nowhere else."""
MAX_OPTIONS = 100
"""Limit of the number of options, which is more than there are."""
ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""Of a request that is only checked."""


def options_of(query: bytes) -> dict[str, str]:
    """Return the options of a query, without empty ones. Raises RequestError for what no form may have either."""
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_OPTIONS)
    except UnicodeDecodeError as error:
        raise RequestError(ErrorCode.INVALID_REQUEST, "The query is not UTF-8.") from error
    except ValueError as error:
        detail = f"The query has more than {MAX_OPTIONS} options."
        raise RequestError(ErrorCode.INVALID_REQUEST, detail) from error
    options: dict[str, str] = {}
    for name, value in pairs:
        if name in options:
            raise RequestError(ErrorCode.INVALID_OPTION, f"{name!r} is given twice in the query.", name)
        options[name] = value
    request_from_form(*together({}, options), ANY_TIME)
    return {name: value for name, value in options.items() if value}


def together(
    fields: Mapping[str, str], query: Mapping[str, str], filename: str | None = None
) -> tuple[dict[str, str], str | None]:
    """Return the options, and the file's name, of a form and its query. Raises RequestError where they contradict each other."""
    given = dict(query)
    named = given.pop(FILENAME, "")
    for name, value in [*given.items(), (FILENAME, named)]:
        other = (filename if name == FILENAME else fields.get(name)) or value
        if value and value != other:
            # The values are not told, because a webhook's URL may hold a password.
            detail = f"{name!r} is one thing in the query and another in the body."
            raise RequestError(ErrorCode.INVALID_OPTION, detail, name)
    return {**fields, **given}, named or filename or None
