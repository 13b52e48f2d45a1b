"""Answering requests of a NATS micro service (ADR-32 of NATS)."""

from nats.micro.request import Request


async def answer(request: Request, body: bytes) -> None:
    """Send the reply, where one is wanted. Raises nats.errors.Error, OSError."""
    if wants_answer(request):
        await request.respond(body)


async def refuse(request: Request, code: int, description: str, body: bytes = b"") -> None:
    """Send an error: its code and description become headers. Raises nats.errors.Error, OSError."""
    if wants_answer(request):
        await request.respond_error(str(code), " ".join(description.split()), data=body)


def wants_answer(request: Request) -> bool:
    """A request that was only published has no subject to answer on; what it asks for is done all the same."""
    return bool(request._msg.reply)
