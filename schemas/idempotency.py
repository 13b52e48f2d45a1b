"""Idempotency keys: what it means when a key comes again. Pure."""

import hashlib
from datetime import timedelta
from enum import Enum

import msgspec

from schemas.errors import ErrorCode, RequestError
from schemas.jobs import VERSION, JobRequest, Timestamp
from schemas.limits import Label, Token

MAX_KEY_CHARS = 255
"""Longest Idempotency-Key."""
RENEW_SECS = 10.0
"""How often a running upload renews its claim."""
STALE = timedelta(seconds=3 * RENEW_SECS)
"""A claim without a fingerprint that is older belongs to an upload that has died with its gateway."""


class Claim(msgspec.Struct, kw_only=True, frozen=True):
    """The value of a key's entry in WHISPER_IDEMPOTENCY."""

    v: int = VERSION
    job_id: Token
    renewed_at: Timestamp
    holder: Label | None = None
    """Names the upload that has the key, so that an upload recognises its own claim when the answer to a write was lost."""
    fingerprint: Label | None = None
    """Fingerprint of the submission; None while its upload is running."""


class Standing(Enum):
    """What has become of a key."""

    FREE = "free"
    """Nobody has used the key, or the upload that had it has died."""
    RUNNING = "running"
    """The first upload is under way."""
    USED = "used"
    """A submission with this key was accepted; the claim's fingerprint says which."""


def standing(claim: Claim | None, age: timedelta) -> Standing:
    """Return what a claim means. `age` is how long ago it was written, by the server's clock."""
    if claim is None:
        return Standing.FREE
    if claim.fingerprint is not None:
        return Standing.USED
    return Standing.FREE if age > STALE else Standing.RUNNING


def fingerprint(request: JobRequest, digest: str) -> str:
    """Return the fingerprint of a submission: of its options, webhook, file name and the digest of its audio, without times.

    Only values that differ from their defaults count, so that an option of a later version does not change older fingerprints.
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
    """Return the name of a key's entry: its SHA-256, because a key may hold any visible character. Raises RequestError."""
    if not (0 < len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        detail = f"An Idempotency-Key is 1 to {MAX_KEY_CHARS} visible ASCII characters."
        raise RequestError(ErrorCode.INVALID_REQUEST, detail, "Idempotency-Key")
    return hashlib.sha256(key.encode()).hexdigest()
