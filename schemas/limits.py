"""The largest strings, lists and numbers that are accepted from outside this process, over every door.

A message on NATS may have any length up to the server's limit and hold anything, so each field that others write has one
of these types. msgspec checks them while it decodes. The limits are wide: they keep memory and subjects within bounds, and
refuse nobody who means well.
"""

from typing import Annotated

from msgspec import Meta

ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$(?!\n)"
"""In Python `$` also matches before a line feed at the end; JSON Schema's regular expressions know no `\\Z`."""
MAX_FILENAME_CHARS = 1024
MAX_URL_CHARS = 2048
MAX_PROMPT_CHARS = 1000
"""whisper.cpp uses the last 223 tokens of a prompt without a word about the rest; this is about as many."""
MAX_MESSAGE_CHARS = 2000
"""Longer sentences (an engine's last words) are clipped, not refused."""

Token = Annotated[str, Meta(pattern=ID_PATTERN)]
"""What becomes one token of a subject, or one key: ids of jobs, workers, webhooks and objects' chunks."""
Name = Annotated[str, Meta(max_length=MAX_FILENAME_CHARS)]
"""A file's or an object's name, a path."""
Url = Annotated[str, Meta(max_length=MAX_URL_CHARS)]
Label = Annotated[str, Meta(max_length=256)]
"""A code, a language, the name of an event."""
Text = Annotated[str, Meta(max_length=65_536)]
"""What somebody said in one segment."""
Count = Annotated[int, Meta(ge=0, le=2**53)]
"""2**53 is the largest whole number that every JSON reader keeps exactly."""
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
"""About 30 years: sums and products of two of them still make a date."""
Percent = Annotated[int, Meta(ge=0, le=100)]


def clipped(text: str) -> str:
    """`text`, and where it is longer than MAX_MESSAGE_CHARS its beginning and its end."""
    if len(text) <= MAX_MESSAGE_CHARS:
        return text
    half = (MAX_MESSAGE_CHARS - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
