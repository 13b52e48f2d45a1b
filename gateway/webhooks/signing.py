"""Standard Webhooks: the headers of a delivery. Pure.

The signed text is `id.timestamp.body`, the signature `v1,` and the HMAC-SHA256 in base64. While secrets are rotated two
signatures are sent, divided by a space. By hand because it is one call of hmac, for which the library standardwebhooks
would bring five packages along; the tests hold it against an example that was signed with that library.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
MAX_SECRETS = 2


def parse_secrets(text: str) -> list[bytes]:
    """One secret, or two divided by a comma, the new one first: `whsec_` and base64, or plain text. Raises ValueError."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > MAX_SECRETS:
        raise ValueError(f"there can be {MAX_SECRETS} secrets at the most")
    return [_key(part) for part in parts]


def _key(secret: str) -> bytes:
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError(f"what follows {PREFIX} must be base64") from error


def headers(delivery_id: str, now: datetime, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """`now` is the time of this try."""
    timestamp = str(int(now.timestamp()))
    found = {
        "content-type": "application/json",
        "user-agent": "whisper-jetstream",
        "webhook-id": delivery_id,
        "webhook-timestamp": timestamp,
    }
    if secrets:
        signed = f"{delivery_id}.{timestamp}.".encode() + body
        found["webhook-signature"] = " ".join(_signature(secret, signed) for secret in secrets)
    return found


def _signature(secret: bytes, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
