"""Which webhook URLs are taken, and what of one may be shown. Pure.

A client names any URL it likes. What passes here can be looked up and connected to without a surprise: Python's resolver
raises UnicodeError for an empty label or one over 63 letters, and a URL may carry a password.
"""

import re
from urllib.parse import SplitResult, urlsplit

MAX_HOST_CHARS = 253
"""Of a name in DNS (RFC 1035), without the dot at its end."""
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
"""RFC 1123, and the underscore that containers and DNS records use. Other scripts come as `xn--` labels (IDNA)."""
UNREADABLE = "(an unreadable URL)"


def is_http_url(text: str) -> bool:
    """True for an absolute http or https URL in ASCII whose host is a name or an address that can be looked up."""
    return _split(text) is not None


def host_and_port(url: str) -> str:
    """`example.com:8443`, in small letters and without a password; "" for what is no URL."""
    parts = _split(url)
    return "" if parts is None else _place(parts)


def shown(url: str) -> str:
    """The URL as it may stand in logs, lists and reasons: without user, password, query and fragment."""
    parts = _split(url)
    return UNREADABLE if parts is None else f"{parts.scheme}://{_place(parts)}{parts.path}"


def _split(text: str) -> SplitResult | None:
    """None for what is no URL that is taken."""
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
    """What was in brackets; urlsplit has checked it. A zone (`%eth0`) means something on this machine only."""
    return ":" in host and "%" not in host


def _is_name(host: str) -> bool:
    """Also an IPv4 address: its numbers are labels."""
    name = host.removesuffix(".")
    return len(name) <= MAX_HOST_CHARS and all(_LABEL.fullmatch(label) for label in name.split("."))


def _place(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port is None else f"{host}:{parts.port}"
