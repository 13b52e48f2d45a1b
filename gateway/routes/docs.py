"""/openapi.json, and Swagger UI at /docs with its files from the package flask-swagger-ui, so that it works offline."""

import importlib.util
from pathlib import Path

from quart import Blueprint, Response, abort, send_from_directory

from gateway.openapi.document import encoded

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>whisper-jetstream</title>
<link rel="stylesheet" href="/docs/swagger-ui.css"><link rel="icon" href="/docs/favicon-32x32.png"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script></body>
</html>
"""
START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true});\n'


NAME = "docs"


def assets() -> Path:
    """Return the folder in which the package keeps Swagger UI. Only its files are used, never its code."""
    package = importlib.util.find_spec("flask_swagger_ui")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("the package flask-swagger-ui, which carries Swagger UI, is not installed")
    return Path(package.submodule_search_locations[0]) / "dist"


def blueprint() -> Blueprint:
    """Return the routes of the documentation. Raises RuntimeError where the package is missing."""
    docs = Blueprint(NAME, __name__)
    body, folder = encoded(), assets()
    names = frozenset(path.name for path in folder.iterdir())

    @docs.get("/openapi.json")
    async def openapi() -> Response:
        return Response(body, content_type="application/json")

    @docs.get("/docs")
    async def page() -> Response:
        return Response(PAGE, content_type="text/html; charset=utf-8")

    @docs.get("/docs/start.js")
    async def start() -> Response:
        return Response(START, content_type="text/javascript")

    @docs.get("/docs/<path:name>")
    async def asset(name: str) -> Response:
        if name not in names:
            abort(404)
        return await send_from_directory(folder, name)

    return docs
