"""Looks up, creates and changes streams and consumers through JetStream's JSON API.

nats-py's own classes drop fields that they do not know, so that a change would lose what an operator has set on a newer server.
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
"""JetStream error codes. The last two mean that another process has created it with other settings meanwhile."""
LOOK_UP_SECS, CHANGE_SECS = 4.0, 10.0
"""Timeouts. A change takes longer, because it is written to the disks of all replicas."""
LARGEST_BYTES, SMALLEST_BYTES = 2**50, 2**20
"""Between these sizes the room of the server's store is searched."""
TRY_NEXT = 0.8
"""Factor from one tried size to the next."""
SHARE_OF_STORE = 0.75
"""Share of the server's store that the audio bucket may take."""

Config = dict[str, Any]
"""A configuration with the field names of JetStream's API."""


def declared(config: StreamConfig | ConsumerConfig) -> Config:
    """Return the fields that we declare. The others are left to the server."""
    said = {name: value for name, value in config.as_dict().items() if value is not None}
    # The detour makes plain strings of enumerations.
    return dict(json.loads(json.dumps(said)))


async def stream(
    js: JetStreamContext, config: StreamConfig, *, create: bool, with_share: bool = False
) -> Config | None:
    """Return the configuration of a stream as the server has it; None where it does not exist.

    With `create` a missing stream is created; with `with_share` its max_bytes is then a share of the server's store. Raises Refused,
    Unavailable.
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
    """Return the configuration of a consumer, as `stream` does for a stream. Raises Refused, Unavailable."""
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
    """Create or change a stream by `make`, with a share of the server's store as its max_bytes.

    A client can read the limits of its account, but not the size of the server's store. A reservation that is too large is refused at
    once, so that smaller and smaller ones are tried. The first accepted one is nearly the whole store, and is cut to its share.
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
    """Change a stream to a whole configuration, and return it as the server has it. Raises Refused, Unavailable."""
    try:
        return dict((await _call(js, f"STREAM.UPDATE.{config['name']}", config))["config"])
    except APIError as error:
        raise await _refused(js, error, config) from error


async def update_with_share(js: JetStreamContext, config: Config) -> Config:
    """Change a stream as `update` does, with a share of the server's store as its max_bytes. Raises Refused, Unavailable."""

    async def change(wanted: Mapping[str, Any]) -> Config:
        return dict((await _call(js, f"STREAM.UPDATE.{config['name']}", wanted))["config"])

    try:
        return await _sized(js, config, change)
    except APIError as error:
        raise await _refused(js, error, config) from error


async def update_consumer(js: JetStreamContext, stream: str, config: Mapping[str, Any]) -> None:
    """Change a consumer to a whole configuration. Raises Refused, Unavailable."""
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
    """Return the refusal as a sentence for the operator of the server."""
    others: list[str] = []
    for subject in config.get("subjects", []):
        try:
            names = await _call(js, "STREAM.NAMES", {"subject": subject})
        except APIError:
            # The names would only make the sentence better.
            continue
        others += [name for name in names.get("streams") or [] if name != config.get("name")]
    return Refused(refusal(int(error.err_code or 0), str(error.description), config, others))


async def _call(js: JetStreamContext, subject: str, request: Mapping[str, Any] | None) -> dict[str, Any]:
    """Make one request of JetStream's API.

    Raises APIError for its refusals; Refused without JetStream or permission; Unavailable.
    """
    body, client = b"" if request is None else json.dumps(request).encode(), js._nc
    timeout = LOOK_UP_SECS if request is None else CHANGE_SECS
    with mapped_errors():
        reply = await client.request(f"$JS.API.{subject}", body, timeout=timeout)
    answer: dict[str, Any] = json.loads(reply.data)
    if "error" in answer:
        raise APIError(**{key: answer["error"].get(key) for key in ("code", "err_code", "description")})
    return answer
