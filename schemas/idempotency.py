"""Idempotency keys: what a key that comes again means. Pure: the claim that is stored and the time in, standing out."""

import hashlib
from datetime import timedelta
from enum import Enum

import msgspec

from schemas.errors import ErrorCode, RequestError
from schemas.jobs import VERSION, JobRequest, Timestamp
from schemas.limits import Label, Token

MAX_KEY_CHARS = 255
RENEW_SECS = 10.0
"""How often a running upload says that it lives."""
STALE = timedelta(seconds=3 * RENEW_SECS)
"""An upload that has not said so for longer has died with its gateway."""


class Claim(msgspec.Struct, kw_only=True, frozen=True):
    """The value of a key's entry in WHISPER_IDEMPOTENCY."""

    v: int = VERSION
    job_id: Token
    renewed_at: Timestamp
    holder: Label | None = None
    """Of the upload that has the key: one that meets its own claim, whose answer was lost, still has it."""
    fingerprint: Label | None = None
    """Of what was asked for; None while the first upload is running."""


class Standing(Enum):
    FREE = "free"
    """Nobody has used the key, or who did has died."""
    RUNNING = "running"
    """The first upload is under way."""
    USED = "used"
    """It was asked for to the end; `fingerprint` tells what."""


def standing(claim: Claim | None, age: timedelta) -> Standing:
    """`age` is how long ago the claim was written, by the clock of the server that keeps it."""
    if claim is None:
        return Standing.FREE
    if claim.fingerprint is not None:
        return Standing.USED
    return Standing.FREE if age > STALE else Standing.RUNNING


def fingerprint(request: JobRequest, digest: str) -> str:
    """Of a submission: options, webhook, file name and the digest of the audio; not of when it was made.

    Only what differs from its default counts, so that an option of a later version leaves older fingerprints as they are.
    """
    asked_for = {
        **_not_default(request.options),
        **_not_default(msgspec.structs.replace(request, created_at=None, upload_secs=None)),
    }
    return hashlib.sha256(msgspec.json.encode(asked_for, order="sorted") + digest.encode()).hexdigest()


def _not_default(asked: msgspec.Struct) -> dict[str, object]:
    fields = msgspec.structs.fields(asked)
    given = {field.name: getattr(asked, field.name) for field in fields if field.name != "options"}
    return {
        field.name: given[field.name]
        for field in fields
        if given.get(field.name, field.default) != field.default
    }


def entry_name(key: str) -> str:
    """The entry of a key, which itself may hold any visible character. Raises RequestError."""
    if not (0 < len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        detail = f"An Idempotency-Key is 1 to {MAX_KEY_CHARS} visible ASCII characters."
        raise RequestError(ErrorCode.INVALID_REQUEST, detail, "Idempotency-Key")
    return hashlib.sha256(key.encode()).hexdigest()
