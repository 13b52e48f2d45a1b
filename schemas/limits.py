"""The largest strings, lists and numbers that are accepted from outside this process, over every door.

A message on NATS may have any length up to the server's limit and any content, so each field that others write has one of these
types, which msgspec checks while it decodes. The limits are wide: they bound memory and subjects without refusing real input.
"""

from typing import Annotated

from msgspec import Meta

ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$(?!\n)"
"""In Python `$` also matches before a line feed at the end, hence the look-ahead: JSON Schema has no `\\Z`."""
MAX_FILENAME_CHARS = 1024
MAX_URL_CHARS = 2048
MAX_PROMPT_CHARS = 1000
"""About as many as whisper.cpp uses: it takes the last 223 tokens of a prompt, and silently drops the rest."""
MAX_MESSAGE_CHARS = 2000
"""Longer sentences, such as an engine's output, are clipped and not refused."""

Token = Annotated[str, Meta(pattern=ID_PATTERN)]
"""One token of a subject, or one key: ids of jobs, workers, webhooks and of the chunks of objects."""
Name = Annotated[str, Meta(max_length=MAX_FILENAME_CHARS)]
"""Name of a file or an object, or a path."""
Url = Annotated[str, Meta(max_length=MAX_URL_CHARS)]
Label = Annotated[str, Meta(max_length=256)]
"""A code, a language, a name of an event."""
Text = Annotated[str, Meta(max_length=65_536)]
"""The text of one segment."""
Count = Annotated[int, Meta(ge=0, le=2**53)]
"""A whole number; 2**53 is the largest that every JSON reader keeps exactly."""
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
"""A duration of up to about 30 years, so that sums of them still make a date."""
Percent = Annotated[int, Meta(ge=0, le=100)]


def clipped(text: str) -> str:
    """Return the text, or its beginning and its end where it is longer than MAX_MESSAGE_CHARS."""
    if len(text) <= MAX_MESSAGE_CHARS:
        return text
    half = (MAX_MESSAGE_CHARS - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
