"""Answers to requests of a NATS micro service (NATS ADR-32)."""

from nats.micro.request import Request


async def answer(request: Request, body: bytes) -> None:
    """Send the reply where the request wants one. Raises nats.errors.Error, OSError."""
    if wants_answer(request):
        await request.respond(body)


async def refuse(request: Request, code: int, description: str, body: bytes = b"") -> None:
    """Send an error, whose code and description become headers. Raises nats.errors.Error, OSError."""
    if wants_answer(request):
        await request.respond_error(str(code), " ".join(description.split()), data=body)


def wants_answer(request: Request) -> bool:
    """Whether a request has a subject for the reply. One that was only published has none, but is carried out all the same."""
    return bool(request._msg.reply)
