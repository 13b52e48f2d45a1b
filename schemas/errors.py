"""The error vocabulary: stable codes, and what each means over HTTP. RFC 9457 problem details."""

import msgspec

from schemas.enums import Told
from schemas.limits import clipped


class ErrorCode(Told):
    """Stable codes that clients may switch on: new ones are added, none is renamed."""

    # Codes of refused requests.
    INVALID_REQUEST = "invalid_request"
    INVALID_OPTION = "invalid_option"
    MISSING_AUDIO = "missing_audio"
    UPLOAD_INCOMPLETE = "upload_incomplete"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    JOB_FINISHED = "job_finished"
    DUPLICATE_JOB = "duplicate_job"
    JOB_RUNNING = "job_running"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    UPLOAD_RUNNING = "upload_running"
    WEBHOOK_REFUSED = "webhook_refused"
    MODEL_NOT_READY = "model_not_ready"
    REQUEST_TOO_LARGE = "request_too_large"
    STORAGE_FULL = "storage_full"
    BROKER_UNAVAILABLE = "broker_unavailable"
    BROKER_REFUSED = "broker_refused"
    INTERNAL = "internal"
    # Codes of failed jobs. The first one is also a code of refused requests.
    MODEL_UNAVAILABLE = "model_unavailable"
    AUDIO_MISSING = "audio_missing"
    AUDIO_CORRUPT = "audio_corrupt"
    AUDIO_EMPTY = "audio_empty"
    AUDIO_UNDECODABLE = "audio_undecodable"
    AUDIO_NO_STREAM = "audio_no_stream"
    AUDIO_TRUNCATED = "audio_truncated"
    """With the option `strict` only. Otherwise it is a warning."""
    AUDIO_DAMAGED = "audio_damaged"
    """As `audio_truncated`."""
    TRACK_MISSING = "track_missing"
    CHANNEL_MISSING = "channel_missing"
    AUDIO_TOO_LONG = "audio_too_long"
    DECODE_TIMEOUT = "decode_timeout"
    DECODE_KILLED = "decode_killed"
    """Used by earlier versions only: an ffmpeg that somebody kills fails no job any more."""
    ENGINE_CRASHED = "engine_crashed"
    WORKER_CRASHED = "worker_crashed"
    TRANSCRIPTION_FAILED = "transcription_failed"
    UNKNOWN = "unknown"
    """A code of a later version. The sentence beside it says what it is."""


HTTP_STATUS: dict[ErrorCode, tuple[int, str]] = {
    ErrorCode.INVALID_REQUEST: (400, "The request cannot be understood"),
    ErrorCode.INVALID_OPTION: (422, "An option has an unusable value"),
    ErrorCode.MISSING_AUDIO: (422, "The request has no audio part"),
    ErrorCode.UPLOAD_INCOMPLETE: (400, "The upload ended early"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: (415, "Such a body is not taken here"),
    ErrorCode.NOT_FOUND: (404, "There is nothing here"),
    ErrorCode.METHOD_NOT_ALLOWED: (405, "The method is not allowed here"),
    ErrorCode.JOB_FINISHED: (409, "The job has already ended"),
    ErrorCode.DUPLICATE_JOB: (409, "A job with this id was submitted already"),
    ErrorCode.JOB_RUNNING: (409, "A job is in the way"),
    ErrorCode.IDEMPOTENCY_MISMATCH: (422, "The Idempotency-Key was used for something else"),
    ErrorCode.UPLOAD_RUNNING: (409, "The first upload with this Idempotency-Key is still running"),
    ErrorCode.WEBHOOK_REFUSED: (422, "The webhook's address is not allowed here"),
    ErrorCode.MODEL_NOT_READY: (503, "The model is not ready yet"),
    ErrorCode.MODEL_UNAVAILABLE: (503, "The model cannot be loaded"),
    ErrorCode.REQUEST_TOO_LARGE: (413, "The request is larger than is allowed here"),
    ErrorCode.STORAGE_FULL: (507, "There is no room for this now"),
    ErrorCode.BROKER_UNAVAILABLE: (503, "The message broker cannot be reached"),
    ErrorCode.BROKER_REFUSED: (502, "The message broker refuses this"),
    ErrorCode.INTERNAL: (500, "Something went wrong here"),
}
"""HTTP status and title of each code that a request can be answered with. The others stand in a job's `error` only."""


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """RFC 9457 problem details, sent as application/problem+json."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: ErrorCode
    field: str | None = None
    """The offending field of the request, where there is one."""


class JobError(msgspec.Struct, kw_only=True, frozen=True):
    """Why a job failed: a stable code and a sentence that a person understands."""

    code: ErrorCode
    message: str
    """Clipped where it is very long, because it goes into the record and into every message about the end of the job."""

    def __post_init__(self) -> None:
        """Clip the message."""
        msgspec.structs.force_setattr(self, "message", clipped(self.message))


class RequestError(Exception):
    """Bad input, found at the edge. Its code must be in HTTP_STATUS."""

    def __init__(
        self, code: ErrorCode, detail: str, field: str | None = None, retry_after: int | None = None
    ) -> None:
        """`field` names the offending part of the request; `retry_after` is in whole seconds."""
        super().__init__(clipped(detail))
        self.code, self.detail, self.field, self.retry_after = code, clipped(detail), field, retry_after

    def problem(self) -> Problem:
        """Return the body of the answer."""
        status, title = HTTP_STATUS[self.code]
        return Problem(title=title, status=status, detail=self.detail, code=self.code, field=self.field)
