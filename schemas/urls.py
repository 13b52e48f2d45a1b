"""Which webhook URLs are accepted, and which part of one may be shown. Pure.

A URL that passes can be looked up and connected to without a surprise: Python's resolver raises UnicodeError for an empty label or
one over 63 letters. A URL may hold a password, which must not be shown.
"""

import re
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

MAX_HOST_CHARS = 253
"""Longest name in DNS (RFC 1035), without the dot at its end."""
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
"""A label by RFC 1123, with the underscore that containers use. Other scripts come as `xn--` labels (IDNA)."""
_PORTS = {"http": 80, "https": 443}
UNREADABLE = "(an unreadable URL)"
"""What is shown of a text that is no such URL."""


def is_http_url(text: str) -> bool:
    """Whether a text is an absolute http or https URL in ASCII, with a host that can be looked up."""
    return _split(text) is not None


def host_and_port(url: str) -> str:
    """Return host and port in small letters, as `example.com:8443`; an empty text for what is no such URL."""
    parts = _split(url)
    return "" if parts is None else _place(parts)


def host_header(url: str) -> str:
    """Return the value of the header Host for a URL that is accepted: an IPv6 address in brackets, no port that follows anyway.

    RFC 9110, 7.2. Raises ValueError for what is no such URL.
    """
    parts = _split(url)
    if parts is None:
        raise ValueError(UNREADABLE)
    return _place(parts._replace(netloc=parts.netloc.removesuffix(f":{_PORTS[parts.scheme]}")))


def basic_credentials(url: str) -> bytes | None:
    """Return `user:password` of a URL, whose percents stand for bytes (RFC 7617, RFC 3986); None where it has neither."""
    parts = _split(url)
    if parts is None or "@" not in parts.netloc:
        return None
    return unquote_to_bytes(parts.username or "") + b":" + unquote_to_bytes(parts.password or "")


def without_credentials(url: str) -> str:
    """Return a URL that is accepted without user and password; all else stays as it is written."""
    parts = _split(url)
    return url if parts is None else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def shown(url: str) -> str:
    """Return the URL as it may stand in logs and lists: without user, password, query and fragment."""
    parts = _split(url)
    return UNREADABLE if parts is None else f"{parts.scheme}://{_place(parts)}{parts.path}"


def _split(text: str) -> SplitResult | None:
    """Return the parts of a URL; None for a text that is not accepted."""
    if not text.isascii() or any(c.isspace() or not c.isprintable() for c in text):
        return None
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    bracketed = parts.netloc.rpartition("@")[2].startswith("[")
    can_be_reached = _is_ipv6(host) if bracketed else _is_name(host)
    return parts if parts.scheme in ("http", "https") and port != 0 and can_be_reached else None


def _is_ipv6(host: str) -> bool:
    """Whether a host in brackets can be used. urlsplit has checked it; a zone (`%eth0`) has a meaning on this machine only."""
    return ":" in host and "%" not in host


def _is_name(host: str) -> bool:
    """Whether a host is a name. An IPv4 address is one as well, because its numbers are labels."""
    name = host.removesuffix(".")
    return len(name) <= MAX_HOST_CHARS and all(_LABEL.fullmatch(label) for label in name.split("."))


def _place(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port is None else f"{host}:{parts.port}"
