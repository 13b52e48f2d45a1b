"""Standard Webhooks: the headers of a delivery. Pure.

The signed text is `id.timestamp.body`, and the signature is `v1,` with the HMAC-SHA256 in base64. While secrets are rotated, two
signatures are sent, separated by a space. It is written by hand because it is one call of hmac, and the library standardwebhooks
would bring five packages; a test compares it with an example that was signed by that library.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

PREFIX = "whsec_"
"""What the secrets of Standard Webhooks begin with; base64 follows."""
MAX_SECRETS = 2


def parse_secrets(text: str) -> list[bytes]:
    """Return one secret, or two that are separated by a comma, the new one first. Raises ValueError.

    A secret is `whsec_` and base64, or plain text.
    """
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
    """Return the headers of one attempt, which is made at `now`."""
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
