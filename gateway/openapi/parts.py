"""Pieces that the descriptions of the OpenAPI document are made of."""

from typing import Any

from schemas.errors import HTTP_STATUS, ErrorCode, Problem

REFERENCE = "#/components/schemas/{name}"
"""Where a schema stands in the document."""


class Refs:
    """References to schemas. It remembers which structs the descriptions have used."""

    def __init__(self) -> None:
        self.kinds: list[type] = []

    def __getitem__(self, kind: type) -> dict[str, Any]:
        """Return the `$ref` of a struct's schema."""
        self.kinds.append(kind)
        return {"$ref": REFERENCE.format(name=kind.__name__)}


def get(operation: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a GET without parameters."""
    return {"get": {"summary": summary, "operationId": operation, "responses": responses}}


def json_body(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a response with a JSON body."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def problems(ref: Refs, *codes: ErrorCode) -> dict[str, Any]:
    """Return one response for each HTTP status of these codes; its description names the codes."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(HTTP_STATUS[code][0], []).append(f"`{code}`: {HTTP_STATUS[code][1]}")
    content = {"application/problem+json": {"schema": ref[Problem]}}
    return {
        str(status): {"description": "; ".join(text), "content": content}
        for status, text in by_status.items()
    }


def path_parameter(name: str) -> dict[str, Any]:
    """Return a required parameter of the path."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    """Return an optional parameter of the query."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


def header(name: str, description: str, example: str | None = None) -> dict[str, Any]:
    """Return an optional header of the request."""
    found = {"name": name, "in": "header", "schema": {"type": "string"}, "description": description}
    return found if example is None else {**found, "example": example}


RESUME = [
    header("Last-Event-ID", "The last event that was seen"),
    query("last_event_id", {"type": "string"}, "The same, for clients that cannot set headers"),
]
"""How a client resumes an event stream."""
