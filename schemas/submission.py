"""Which submissions are accepted, over both doors. Options are validated here and nowhere else. Pure."""

from typing import Any

import msgspec

from schemas.errors import ErrorCode, RequestError
from schemas.inputs import SUBMISSION, Unreadable
from schemas.jobs import VERSION, JobRequest, Timestamp, WebhookEvent
from schemas.languages import AUTO, LANGUAGES
from schemas.options import LEAST_TEMPERATURE_INC, Task, TranscribeOptions
from schemas.recordings import MAX_CHANNELS, MIX, SPLIT, SampleFormat, channel_number
from schemas.urls import is_http_url


def parse_request(body: bytes) -> JobRequest:
    """Return the request in the body of a submission.

    Raises RequestError with `invalid_request` (no JSON object, wrong types) or `invalid_option`.
    """
    try:
        request = SUBMISSION.read(body)
    except Unreadable as error:
        if isinstance(error.__cause__, msgspec.ValidationError):
            raise _invalid(error.__cause__) from error
        raise RequestError(ErrorCode.INVALID_REQUEST, f"The job request is not JSON: {error}.") from error
    if request.v != VERSION:
        raise RequestError(
            ErrorCode.INVALID_REQUEST, f"Version {request.v} is unknown; this is {VERSION}.", "v"
        )
    _check_names(body)
    check(request)
    return request


class _Asked(msgspec.Struct):
    """The names of the options in a submission. Its other fields are not looked at."""

    options: dict[str, msgspec.Raw] = {}


def _check_names(body: bytes) -> None:
    """Check that each option is one that there is, as in a form. Raises RequestError with `invalid_option`.

    Everywhere else unknown fields are ignored, so that versions understand each other. An option is what a user has asked for: a job
    that ignores it, because it is misspelt or because this worker is older than the gateway, gives something else and says nothing.
    So such a job fails. A newer gateway says only what differs from the defaults (`submitted`), and all that its users could ask for
    before goes through an older worker.
    """
    for name in msgspec.json.decode(body, type=_Asked).options:
        if name not in TranscribeOptions.__struct_fields__:
            raise _no_option(name)


def _no_option(name: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_OPTION, f"There is no option {name!r}.", name)


def submitted(request: JobRequest) -> bytes:
    """Return the body of a submission. Options at their default are left out: an older worker may not know them."""
    options = request.options
    asked = {
        field.name: value
        for field in msgspec.structs.fields(options)
        if (value := getattr(options, field.name)) != field.default
    }
    fields = {name: getattr(request, name) for name in request.__struct_fields__}
    return msgspec.json.encode({**fields, "options": asked})


WEBHOOK_FIELDS = ("webhook_url", "webhook_events")
"""Form fields that are no options."""


def request_from_form(fields: dict[str, str], filename: str | None, created_at: Timestamp) -> JobRequest:
    """Return the request of an HTTP form, where empty fields count as missing. Raises RequestError with the field."""
    for name in fields:
        if name not in TranscribeOptions.__struct_fields__ and name not in WEBHOOK_FIELDS:
            raise _no_option(name)
    given: dict[str, Any] = {name: value for name, value in fields.items() if value != ""}
    if "webhook_events" in given:
        given["webhook_events"] = [part.strip() for part in given["webhook_events"].split(",")]
    outside = {name: given.pop(name) for name in WEBHOOK_FIELDS if name in given}
    try:
        request = msgspec.convert(
            {**outside, "filename": filename, "options": given}, JobRequest, strict=False
        )
    except msgspec.ValidationError as error:
        raise _invalid(error) from error
    request = msgspec.structs.replace(request, created_at=created_at)
    check(request)
    return request


def check(request: JobRequest) -> None:
    """Check what types cannot express. Raises RequestError with `invalid_option` and the field."""
    if not request.options.task.is_known:
        detail = f"task: {request.options.task!s} is none of {', '.join(Task)}."
        raise RequestError(ErrorCode.INVALID_OPTION, detail, "task")
    if unknown := [event for event in request.webhook_events if not event.is_known]:
        detail = f"webhook_events: {', '.join(unknown)} is none of {', '.join(WebhookEvent)}."
        raise RequestError(ErrorCode.INVALID_OPTION, detail, "webhook_events")
    _check_source(request.options)
    if 0 < request.options.temperature_inc < LEAST_TEMPERATURE_INC:
        detail = f"temperature_inc is 0, which tries each window once, or at least {LEAST_TEMPERATURE_INC}."
        raise RequestError(ErrorCode.INVALID_OPTION, detail, "temperature_inc")
    language = request.options.language
    if language != AUTO and language not in LANGUAGES:
        detail = f"{language!r} is no language code known to whisper; `{AUTO}` detects it."
        raise RequestError(ErrorCode.INVALID_OPTION, detail, "language")
    if request.webhook_url is not None and not is_http_url(request.webhook_url):
        detail = "The webhook URL must be an absolute http or https URL with a host."
        raise RequestError(ErrorCode.INVALID_OPTION, detail, "webhook_url")


def _check_source(options: TranscribeOptions) -> None:
    """Check the options about what is in the file. Raises RequestError."""
    if options.channels not in (MIX, SPLIT) and channel_number(options.channels) is None:
        detail = f"channels: {options.channels!r} is neither `{MIX}`, `{SPLIT}` nor a number from 1 to {MAX_CHANNELS}."
        raise RequestError(ErrorCode.INVALID_OPTION, detail, "channels")
    if options.format is not None and not options.format.is_known:
        detail = f"format: {options.format!s} is none of {', '.join(SampleFormat)}."
        raise RequestError(ErrorCode.INVALID_OPTION, detail, "format")
    for name in ("sample_rate", "channel_count"):
        if options.format is None and getattr(options, name) is not None:
            detail = f"{name} is for samples without a header: it needs `format` beside it."
            raise RequestError(ErrorCode.INVALID_OPTION, detail, name)


def _invalid(error: msgspec.ValidationError) -> RequestError:
    """Return the error for a message of msgspec, which ends with the path: "... - at `$.options.vad`"."""
    message, _, path = str(error).partition(" - at `")
    field = path.rstrip("`").lstrip("$").lstrip(".").removeprefix("options.").partition("[")[0] or None
    code = ErrorCode.INVALID_OPTION if field else ErrorCode.INVALID_REQUEST
    return RequestError(code, f"{message}." if field is None else f"{field}: {message}.", field)


def same_job(first: JobRequest, again: JobRequest) -> None:
    """Check that a job id which comes again has the same content. Raises RequestError with `duplicate_job`."""
    without_time = {"created_at": None, "upload_secs": None}
    if msgspec.structs.replace(first, **without_time) != msgspec.structs.replace(again, **without_time):
        detail = "A job with this id has ended already, and asked for something else."
        raise RequestError(ErrorCode.DUPLICATE_JOB, detail)
