"""A channel of the AsyncAPI document, with the operation on it."""

from typing import Any

import msgspec


class Channel(msgspec.Struct, kw_only=True, frozen=True):
    """One subject, or one pattern of subjects, as our own processes see it: they receive what clients publish."""

    name: str
    """Its key in the document."""
    address: str
    """The subject; parameters stand in braces."""
    by: str
    """Who publishes, in words."""
    to: str
    """Who subscribes, in words."""
    summary: str
    body: type | None = None
    """The struct of the message; None where the body is empty or free."""
    parameters: dict[str, Any] = {}
    """Parameters of the address, by name."""
    stream: str | None = None
    """The stream that keeps the messages."""
    reply: type | None = None
    """The struct of the reply."""
    headers: dict[str, str] = {}
    """Descriptions of headers, by name."""

    def description(self) -> dict[str, Any]:
        """Return the channel for the document."""
        found: dict[str, Any] = {
            "address": self.address,
            "messages": {self.name: self._message()},
            "x-published-by": self.by,
            "x-subscribed-by": self.to,
        }
        if self.parameters:
            found["parameters"] = self.parameters
        if self.stream:
            found["x-stream"] = self.stream
        return found

    def operation(self) -> dict[str, Any]:
        """Return the operation for the document."""
        found: dict[str, Any] = {
            "action": "receive" if "client" in self.by else "send",
            "channel": {"$ref": f"#/channels/{self.name}"},
            "summary": self.summary,
        }
        if self.reply is not None:
            found["x-reply"] = {"$ref": f"#/components/schemas/{self.reply.__name__}"}
        return found

    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"contentType": "application/json"}
        if self.body is not None:
            message["payload"] = {"$ref": f"#/components/schemas/{self.body.__name__}"}
        if self.headers:
            properties = {
                name: {"type": "string", "description": text} for name, text in self.headers.items()
            }
            message["headers"] = {"type": "object", "properties": properties}
        return message
