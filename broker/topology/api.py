"""Streams and consumers as a server has them: look them up, make them, change them, by JetStream's JSON API.

nats-py's own classes drop the fields that they do not know: what an operator has set on a newer server would be lost by a change.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, StreamConfig
from nats.js.errors import APIError

from broker.error_mapping import mapped_errors
from broker.errors import Refused
from broker.topology.refusals import TOO_LARGE, refusal

log = logging.getLogger(__name__)

STREAM_NOT_FOUND, CONSUMER_NOT_FOUND = 10059, 10014
STREAM_IN_USE, CONSUMER_EXISTS = 10058, 10148
"""JetStream error codes; the last two: it has been made with other settings by another process meanwhile."""
LOOK_UP_SECS, CHANGE_SECS = 4.0, 10.0
"""A change is written to the disks of all replicas."""
LARGEST_BYTES, SMALLEST_BYTES = 2**50, 2**20
TRY_NEXT = 0.8
SHARE_OF_STORE = 0.75

Config = dict[str, Any]
"""As in JetStream's API."""


def declared(config: StreamConfig | ConsumerConfig) -> Config:
    """What we say about it; what we do not mention is left to the server."""
    said = {name: value for name, value in config.as_dict().items() if value is not None}
    return dict(json.loads(json.dumps(said)))  # enumerations become plain strings


async def stream(
    js: JetStreamContext, config: StreamConfig, *, create: bool, with_share: bool = False
) -> Config | None:
    """How it is there; None where it is not. With `create` it is made where it is missing.

    `with_share` gives a stream that is made a share of the server's store as its max_bytes. Raises Refused, Unavailable.
    """
    name = str(config.name)
    found = await _look_up(js, f"STREAM.INFO.{name}", STREAM_NOT_FOUND)
    if found is not None or not create:
        return found

    async def make(wanted: Mapping[str, Any]) -> Config:
        return dict((await _call(js, f"STREAM.CREATE.{name}", wanted))["config"])

    try:
        return await _sized(js, declared(config), make) if with_share else await make(declared(config))
    except APIError as error:
        if error.err_code == STREAM_IN_USE:
            return await _look_up(js, f"STREAM.INFO.{name}", STREAM_NOT_FOUND)
        raise await _refused(js, error, declared(config)) from error


async def consumer(
    js: JetStreamContext, stream: str, config: ConsumerConfig, *, create: bool
) -> Config | None:
    """As `stream`."""
    name = str(config.durable_name)
    found = await _look_up(js, f"CONSUMER.INFO.{stream}.{name}", CONSUMER_NOT_FOUND)
    if found is not None or not create:
        return found
    request = {"stream_name": stream, "config": declared(config), "action": "create"}
    try:
        return dict((await _call(js, f"CONSUMER.CREATE.{stream}.{name}", request))["config"])
    except APIError as error:
        if error.err_code == CONSUMER_EXISTS:
            return await _look_up(js, f"CONSUMER.INFO.{stream}.{name}", CONSUMER_NOT_FOUND)
        raise await _refused(js, error, {"name": f"{stream} {name}"}) from error


async def _sized(
    js: JetStreamContext, config: Config, make: Callable[[Mapping[str, Any]], Awaitable[Config]]
) -> Config:
    """Make it with a share of what the server's store has room for.

    No client is told how much that is: limits of an account are, the size of the server's store is not. But a reservation that is
    too large is refused at once, so a smaller and smaller one is tried; the first that is accepted is (nearly) the whole
    store, and of that it keeps its share.
    """
    size = LARGEST_BYTES
    while True:
        try:
            whole = await make({**config, "max_bytes": size})
            break
        except APIError as error:
            size = int(size * TRY_NEXT)
            if error.err_code not in TOO_LARGE or size < SMALLEST_BYTES:
                raise
    return await update(js, {**whole, "max_bytes": int(size * SHARE_OF_STORE)})


async def update(js: JetStreamContext, config: Mapping[str, Any]) -> Config:
    """Change a stream; the whole configuration is given. Raises Refused, Unavailable."""
    try:
        return dict((await _call(js, f"STREAM.UPDATE.{config['name']}", config))["config"])
    except APIError as error:
        raise await _refused(js, error, config) from error


async def update_with_share(js: JetStreamContext, config: Config) -> Config:
    """As `update`, with a share of the server's store as max_bytes."""

    async def change(wanted: Mapping[str, Any]) -> Config:
        return dict((await _call(js, f"STREAM.UPDATE.{config['name']}", wanted))["config"])

    try:
        return await _sized(js, config, change)
    except APIError as error:
        raise await _refused(js, error, config) from error


async def update_consumer(js: JetStreamContext, stream: str, config: Mapping[str, Any]) -> None:
    """As `update`."""
    request = {"stream_name": stream, "config": config, "action": "update"}
    try:
        await _call(js, f"CONSUMER.CREATE.{stream}.{config['name']}", request)
    except APIError as error:
        raise await _refused(js, error, {"name": f"{stream} {config['name']}"}) from error


async def _look_up(js: JetStreamContext, subject: str, not_found: int) -> Config | None:
    try:
        return dict((await _call(js, subject, None))["config"])
    except APIError as error:
        if error.err_code in (not_found, STREAM_NOT_FOUND):
            return None
        raise await _refused(js, error, {}) from error


async def _refused(js: JetStreamContext, error: APIError, config: Mapping[str, Any]) -> Refused:
    """In a sentence for whoever runs the server."""
    others: list[str] = []
    for subject in config.get("subjects", []):
        try:
            names = await _call(js, "STREAM.NAMES", {"subject": subject})
        except APIError:  # it only makes the sentence better
            continue
        others += [name for name in names.get("streams") or [] if name != config.get("name")]
    return Refused(refusal(int(error.err_code or 0), str(error.description), config, others))


async def _call(js: JetStreamContext, subject: str, request: Mapping[str, Any] | None) -> dict[str, Any]:
    """One request of JetStream's API. Raises APIError for its refusals, Refused without JetStream or permission, Unavailable."""
    body, client = b"" if request is None else json.dumps(request).encode(), js._nc
    timeout = LOOK_UP_SECS if request is None else CHANGE_SECS
    with mapped_errors():
        reply = await client.request(f"$JS.API.{subject}", body, timeout=timeout)
    answer: dict[str, Any] = json.loads(reply.data)
    if "error" in answer:
        raise APIError(**{key: answer["error"].get(key) for key in ("code", "err_code", "description")})
    return answer
