"""Pieces that every operation of the OpenAPI document is put together from."""

from typing import Any

from schemas.errors import HTTP_STATUS, ErrorCode, Problem

Refs = dict[Any, dict[str, Any]]
"""Struct to `$ref`."""


def get(operation: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"summary": summary, "operationId": operation, "responses": responses}}


def json_body(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def problems(ref: Refs, *codes: ErrorCode) -> dict[str, Any]:
    """One response per HTTP status, naming the codes that it can carry."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(HTTP_STATUS[code][0], []).append(f"`{code}`: {HTTP_STATUS[code][1]}")
    content = {"application/problem+json": {"schema": ref[Problem]}}
    return {
        str(status): {"description": "; ".join(text), "content": content}
        for status, text in by_status.items()
    }


def path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def header(name: str, description: str, example: str | None = None) -> dict[str, Any]:
    found = {"name": name, "in": "header", "schema": {"type": "string"}, "description": description}
    return found if example is None else {**found, "example": example}
