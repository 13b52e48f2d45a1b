"""Changes the streams, buckets and consumers of a server to the present settings: `whisper-jetstream topology apply`."""

from collections.abc import Awaitable, Callable

import msgspec
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, StreamConfig

from broker.errors import Refused
from broker.settings import BrokerSettings
from broker.topology import api, declarations
from broker.topology.diff import SHARE, Difference, changed, differences


class Applied(msgspec.Struct, kw_only=True, frozen=True):
    """The result for one difference."""

    difference: Difference
    problem: str = ""
    """Why it could not be changed; empty where it was changed."""


async def apply(js: JetStreamContext, settings: BrokerSettings) -> list[Applied]:
    """Create what is missing and change what differs. A stream that cannot be changed does not stop the others.

    Fields that our settings do not mention stay as the operator has them. Raises Refused where something missing cannot be created,
    Unavailable.
    """
    outcome: list[Applied] = []
    for config in [*declarations.streams(settings), *declarations.buckets(settings)]:
        outcome += await _stream(js, config, declarations.takes_share(config))
    for stream, consumer in declarations.consumers(settings).items():
        outcome += await _consumer(js, stream, consumer)
    return outcome


async def _stream(js: JetStreamContext, config: StreamConfig, with_share: bool) -> list[Applied]:
    present = await api.stream(js, config, create=False)
    wanted = api.declared(config)
    found = differences(str(config.name), wanted, present, limited=with_share)
    if present is None:
        await api.stream(js, config, create=True, with_share=with_share)
        return [Applied(difference=missing) for missing in found]

    async def update(due: list[Difference]) -> None:
        config = changed(present, due)
        if any(difference.wanted == SHARE for difference in due):
            await api.update_with_share(js, config)
        else:
            await api.update(js, config)
        present.update(config)

    return await _outcome(found, update)


async def _consumer(js: JetStreamContext, stream: str, config: ConsumerConfig) -> list[Applied]:
    present = await api.consumer(js, stream, config, create=False)
    found = differences(f"{stream} {config.durable_name}", api.declared(config), present)
    if present is None:
        await api.consumer(js, stream, config, create=True)
        return [Applied(difference=missing) for missing in found]

    async def update(due: list[Difference]) -> None:
        config = changed(present, due)
        await api.update_consumer(js, stream, config)
        present.update(config)

    return await _outcome(found, update)


async def _outcome(
    found: list[Difference], update: Callable[[list[Difference]], Awaitable[None]]
) -> list[Applied]:
    """Make all changes at once, since some are only accepted together. Where that is refused, leave out one that causes it."""
    due = [difference for difference in found if difference.can_be_changed]
    problems = {difference.field: difference.why_fixed for difference in found if difference not in due}
    refused = await _try(update, due) if due else ""
    if refused:
        for left_out in due:
            others = [difference for difference in due if difference is not left_out]
            if others and not await _try(update, others):
                problems[left_out.field] = refused
                break
        else:
            problems |= {difference.field: refused for difference in due}
    return [
        Applied(difference=difference, problem=problems.get(difference.field, "")) for difference in found
    ]


async def _try(update: Callable[[list[Difference]], Awaitable[None]], due: list[Difference]) -> str:
    """Make a change. Returns why it was refused; empty where it was accepted."""
    try:
        await update(due)
    except Refused as error:
        return str(error)
    return ""
