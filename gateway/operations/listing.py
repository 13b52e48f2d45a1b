"""Pages of the list of jobs. Pure: all records and a query in, one page out.

A cursor is the position of the last job of the previous page, so that pages stay right while jobs come and go.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from schemas.errors import ErrorCode, RequestError
from schemas.jobs import JobList, JobRecord, JobStatus, Timestamp

LIMIT_DEFAULT, LIMIT_MAX = 50, 500
MAX_CURSOR_CHARS = 256
"""Longest cursor that this module makes."""
FIELDS = ("limit", "cursor", "status", "created_after")


class Cursor(msgspec.Struct, array_like=True, frozen=True, order=True):
    """A position in the list, which is sorted by these two fields."""

    created_at: Timestamp
    job_id: str

    def encode(self) -> str:
        """Return the cursor as text for a URL."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


class ListQuery(msgspec.Struct, kw_only=True, frozen=True):
    """What a client asks for. A filter of None lets every job pass."""

    limit: int = LIMIT_DEFAULT
    before: Cursor | None = None
    status: JobStatus | None = None
    created_after: datetime | None = None


def parse_query(given: Mapping[str, object]) -> ListQuery:
    """Return the query of a request, whose values are text over HTTP and JSON over NATS. Raises RequestError with the field."""
    for name in given:
        if name not in FIELDS:
            raise RequestError(ErrorCode.INVALID_OPTION, f"There is no filter {name!r}.", name)
    limit = str(given.get("limit", LIMIT_DEFAULT))
    # The length is checked first, because Python refuses to convert more than 4,300 digits.
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 9 and 1 <= int(limit) <= LIMIT_MAX):
        raise RequestError(ErrorCode.INVALID_OPTION, f"limit must be 1 to {LIMIT_MAX}.", "limit")
    return ListQuery(
        limit=int(limit),
        before=_cursor(str(given["cursor"])) if given.get("cursor") else None,
        status=_status(given),
        created_after=_convert(
            given, "created_after", Timestamp, "a time with its zone, as 2026-11-25T12:00:00Z"
        ),
    )


def page(records: Iterable[JobRecord], query: ListQuery) -> tuple[list[JobRecord], str | None]:
    """Return one page of records, newest first, and the cursor of the next page; None on the last."""
    wanted = [
        record
        for record in records
        if (query.status is None or record.status is query.status)
        and (query.created_after is None or record.created_at > query.created_after)
        and (query.before is None or _place(record) < query.before)
    ]
    wanted.sort(key=_place, reverse=True)
    shown = wanted[: query.limit]
    return shown, _place(shown[-1]).encode() if len(wanted) > len(shown) else None


def fitting(found: JobList, max_bytes: int) -> JobList:
    """Return the page, or its beginning where the page is larger than `max_bytes` as JSON."""
    room = max_bytes - len(msgspec.json.encode(JobList(jobs=[], next_cursor="x" * MAX_CURSOR_CHARS)))
    for count, job in enumerate(found.jobs):
        room -= len(msgspec.json.encode(job)) + 1
        if room < 0 and count:
            last = found.jobs[count - 1]
            return JobList(jobs=found.jobs[:count], next_cursor=Cursor(last.created_at, last.id).encode())
    return found


def _place(record: JobRecord) -> Cursor:
    return Cursor(record.created_at, record.id)


def _cursor(text: str) -> Cursor:
    try:
        if len(text) > MAX_CURSOR_CHARS:
            raise ValueError("it is too long")
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Cursor)
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise RequestError(ErrorCode.INVALID_OPTION, "The cursor is none of ours.", "cursor") from error


def _status(given: Mapping[str, object]) -> JobStatus | None:
    status: JobStatus | None = _convert(given, "status", JobStatus, ", ".join(JobStatus))
    # An unknown word is read as `unknown`, which is no filter.
    if status is not None and status != given["status"]:
        raise RequestError(ErrorCode.INVALID_OPTION, f"status must be {', '.join(JobStatus)}.", "status")
    return status


def _convert(given: Mapping[str, object], name: str, kind: Any, expected: str) -> Any:
    if not given.get(name):
        return None
    try:
        return msgspec.convert(given[name], kind)
    except msgspec.ValidationError as error:
        raise RequestError(ErrorCode.INVALID_OPTION, f"{name} must be {expected}.", name) from error
