"""Every format that a job can be read in. Pure.

A new format is a module beside this one with a pure function from Job to bytes, and one line in FORMATS. Routes, OpenAPI and
content negotiation take the formats from here.
"""

from collections.abc import Callable

import msgspec
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from gateway.formats import json
from schemas.jobs import Job


class Format(msgspec.Struct, frozen=True):
    """One format."""

    name: str
    media_type: str
    render: Callable[[Job], bytes]


FORMATS = (Format("json", "application/json", json.render),)
"""The first one is the default."""


def negotiate(accept: str | None) -> Format:
    """Return the format that an Accept header prefers; the default where it names none of ours, or is missing."""
    wanted = parse_accept_header(accept, MIMEAccept).best_match([f.media_type for f in FORMATS])
    return next((f for f in FORMATS if f.media_type == wanted), FORMATS[0])
