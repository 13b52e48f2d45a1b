"""What kind of body an upload has: a multipart form, or the audio and nothing else. Pure."""

from werkzeug.http import parse_options_header

from schemas.errors import ErrorCode, RequestError

FORM = "multipart/form-data"
OCTETS = "application/octet-stream"
MEDIA_FAMILIES = ("audio/", "video/")
MEDIA_TYPES = frozenset({OCTETS, "application/ogg", "application/mp4"})
"""Types of recordings that are in no family of their own (RFC 5334, RFC 4337), and the type that says nothing."""
URL_ENCODED = "application/x-www-form-urlencoded"
"""What `curl --data-binary @file` sends where it is told no type."""
UNCODED = frozenset({"", "identity"})
"""Values of Content-Encoding that change nothing."""
MAX_BOUNDARY_CHARS = 256
"""RFC 2046 allows 70; some clients use more."""
HOW = (
    "Send the audio as multipart/form-data with a field `audio`, as `curl -F audio=@file` does, or as the body with its own type, "
    "as `curl --data-binary @file -H 'Content-Type: application/octet-stream'` does; `audio/*` and `video/*` are types as well."
)


def media_type(content_type: str) -> str:
    """Return the type without its parameters, in small letters, because its letters have no case (RFC 9110, 8.3.1)."""
    return content_type.partition(";")[0].strip().lower()


def is_media(kind: str) -> bool:
    """Whether a body, or a part, of this media type is a recording."""
    return kind.startswith(MEDIA_FAMILIES) or kind in MEDIA_TYPES


def check_body(content_type: str, content_encoding: str) -> None:
    """Check what the headers say of the body. Raises RequestError `unsupported_media_type`."""
    codings = {coding.strip().lower() for coding in content_encoding.split(",")}
    if coded := sorted(codings - UNCODED):
        detail = f"The body is sent with Content-Encoding {', '.join(coded)}. Send it as it is, without one."
        raise RequestError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, detail, "Content-Encoding")
    kind = media_type(content_type)
    if is_media(kind):
        return
    if kind == FORM:
        boundary(content_type)
        return
    told = f"The body is sent as {kind}." if kind else "The request has no Content-Type."
    if kind == URL_ENCODED:
        told = f"The body is sent as {kind}, which is what curl says of `--data-binary` without a type."
    raise RequestError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, f"{told} {HOW}")


def boundary(content_type: str) -> bytes:
    """Return the boundary of a multipart form. Raises RequestError for an unusable one."""
    found = parse_options_header(content_type)[1].get("boundary", "")
    if not (0 < len(found) <= MAX_BOUNDARY_CHARS and found.isascii() and found.isprintable()):
        detail = f"The form needs a boundary of 1 to {MAX_BOUNDARY_CHARS} printable ASCII characters."
        raise RequestError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, detail)
    return found.encode()
