"""The header Content-Disposition as clients write it, of a part of a form (RFC 7578) and of a body (RFC 6266). Pure.

The package multipart reads neither `filename*` nor names in another charset than UTF-8.
"""

import re
from urllib.parse import unquote_to_bytes

import msgspec
from multipart import content_disposition_unquote

_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')
"""A parameter with a quoted value, or with all that stands before the next semicolon: old clients do not quote."""
_CHARSETS = frozenset({"utf-8", "utf8", "iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii"})
"""RFC 5987 has the first and the third; the others are names of the same that are seen."""
EXTENDED_FILENAME = "filename*"


class Disposition(msgspec.Struct, kw_only=True, frozen=True):
    """What a part or a body says of itself."""

    name: str = ""
    filename: str = ""
    """Empty where the client gives none, and where it cannot be read: a name is no reason to refuse audio."""
    is_file: bool = False
    """Whether there is a file name at all, also an empty or unreadable one."""


def parse(header: str) -> Disposition:
    """Return what a header says. Its bytes come as Latin-1, as HTTP servers give them."""
    found: dict[str, str] = {}
    for key, value in _PARAMETER.findall(header):
        found.setdefault(key.lower(), value.strip())
    return Disposition(
        name=_extended(found.get("name*", "")) or _plain(found.get("name", "")),
        filename=_extended(found.get(EXTENDED_FILENAME, ""))
        or _plain(found.get("filename", ""), is_file=True),
        is_file=any(key == "filename" or key.startswith(EXTENDED_FILENAME) for key in found),
    )


def _plain(value: str, *, is_file: bool = False) -> str:
    """Return a value without its quotes. It is UTF-8 from the clients of today, and Latin-1 from older ones."""
    raw = str(content_disposition_unquote(value, is_file)).encode("latin-1")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _extended(value: str) -> str:
    """Return the text of a value such as `UTF-8''%E2%82%AC` (RFC 5987); an empty one for what is no such value."""
    charset, _, rest = value.strip('"').partition("'")
    _, ends, encoded = rest.partition("'")
    if not ends or charset.lower() not in _CHARSETS:
        return ""
    try:
        return unquote_to_bytes(encoded.encode("latin-1")).decode(charset)
    except UnicodeDecodeError:
        return ""
