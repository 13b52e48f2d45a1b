"""The gateway under another HTTP server: `ASGI_SERVER=uvicorn python -m benchmarks.gateway_under`.

For `python -m benchmarks.servers`. uvicorn, httptools and granian are no packages of this project.
"""

import os
import socket
import sys

from broker.running import run_until_signal, set_up_logging
from gateway.app import Serve, create_app, run, serve_http
from gateway.services import Services
from gateway.settings import GatewaySettings
from schemas.settings import from_environment


async def serve_uvicorn(services: Services, listening: int) -> None:
    import uvicorn

    sock = socket.socket(fileno=listening)
    http = "h11" if os.environ["ASGI_SERVER"] == "uvicorn-h11" else "httptools"
    config = uvicorn.Config(create_app(services), http=http, ws="none", lifespan="off", access_log=False)
    sys.stderr.write(f"Running on http://127.0.0.1:{sock.getsockname()[1]}\n")
    await uvicorn.Server(config).serve(sockets=[sock])


async def serve_granian(services: Services, listening: int) -> None:
    from granian.constants import Interfaces
    from granian.server.embed import Server

    with socket.socket(fileno=listening) as sock:  # granian makes its own
        port = int(sock.getsockname()[1])
    server = Server(create_app(services), address="127.0.0.1", port=port, interface=Interfaces.ASGINL)
    sys.stderr.write(f"Running on http://127.0.0.1:{port}\n")
    try:
        await server.serve()
    finally:
        server.stop()


SERVERS: dict[str, Serve] = {
    "hypercorn": serve_http,
    "uvicorn": serve_uvicorn,
    "uvicorn-h11": serve_uvicorn,
    "granian": serve_granian,
}

if __name__ == "__main__":
    settings = from_environment(GatewaySettings, os.environ)
    set_up_logging(settings.log_level)
    sys.exit(run_until_signal(run(settings, SERVERS[os.environ["ASGI_SERVER"]])))
