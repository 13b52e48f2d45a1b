"""The gateway under another HTTP server: `ASGI_SERVER=uvicorn python -m benchmarks.gateway_under`.

For `python -m benchmarks.servers`. uvicorn, httptools and granian are no packages of this project.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Quart

from broker.errors import BrokerError
from gateway.app import Serve, run, serve_http
from gateway.settings import GatewaySettings
from process.logs import set_up_logging
from process.signals import run_until_signal
from schemas.settings import from_environment


async def serve_uvicorn(app: Quart, _end_streams: Callable[[], None], listening: int) -> None:
    import uvicorn

    sock = socket.socket(fileno=listening)
    http = "h11" if os.environ["ASGI_SERVER"] == "uvicorn-h11" else "httptools"
    config = uvicorn.Config(app, http=http, ws="none", lifespan="off", access_log=False)
    sys.stderr.write(f"Running on http://127.0.0.1:{sock.getsockname()[1]}\n")
    await uvicorn.Server(config).serve(sockets=[sock])


async def granian_app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """The gateway as granian wants it: what lives as long as the server is opened in `lifespan`."""
    if scope["type"] == "lifespan":
        await receive()
        settings, opened = from_environment(GatewaySettings, os.environ), asyncio.Event()

        async def hand_over(app: Quart, _end_streams: Callable[[], None], listening: int) -> None:
            socket.socket(fileno=listening).close()  # granian has made its own
            _handed_over.append(app)
            opened.set()
            await asyncio.Event().wait()

        running = asyncio.ensure_future(run(settings, hand_over))
        await opened.wait()
        sys.stderr.write(f"Running on http://127.0.0.1:{os.environ['GRANIAN_PORT']}\n")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        running.cancel()
        await asyncio.wait([running])
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await _handed_over[0](scope, receive, send)


_handed_over: list[Quart] = []


def serve_granian() -> None:
    """Until a signal. Its workers are processes, here one."""
    from granian import Granian
    from granian.constants import Interfaces, Loops

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    os.environ["GRANIAN_PORT"] = str(port)
    target = "benchmarks.gateway_under:granian_app"
    many = 4096  # requests that are served at once; an event stream is one
    Granian(
        target, port=port, interface=Interfaces.ASGI, loop=Loops.uvloop, backlog=many, backpressure=many
    ).serve()


IN_PROCESS: dict[str, Serve] = {
    "hypercorn": serve_http,
    "uvicorn": serve_uvicorn,
    "uvicorn-h11": serve_uvicorn,
}
SERVERS = [*IN_PROCESS, "granian"]

if __name__ == "__main__":
    settings = from_environment(GatewaySettings, os.environ)
    set_up_logging(settings.log_level)
    if (name := os.environ["ASGI_SERVER"]) == "granian":
        serve_granian()
    else:
        sys.exit(run_until_signal(run(settings, IN_PROCESS[name]), expected=BrokerError))
