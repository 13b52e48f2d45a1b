"""Creates the streams, consumers and buckets that are missing, at the start of whichever process comes first.

Streams that exist belong to the operator (docs/adr/0018): a process that starts compares them and never changes them. Only
`whisper-jetstream topology apply` does (broker/topology/apply.py).
"""

import logging
from typing import TypeVar

import msgspec
from nats.js import JetStreamContext

from broker.settings import BrokerSettings
from broker.topology import api
from broker.topology.declarations import buckets, consumers, streams, takes_share
from broker.topology.diff import Difference, differences, in_one_line, seconds
from schemas import subjects

log = logging.getLogger(__name__)

Settings = TypeVar("Settings", bound=BrokerSettings)


async def ensure(js: JetStreamContext, settings: Settings) -> Settings:
    """Create what is missing, change nothing, and return the settings that hold on this server.

    Any number of processes may do this at once. A stream that exists with other settings is kept, with one warning. Raises Refused
    with a sentence for the operator of the server, Unavailable.
    """
    found = await compare(js, settings, create=True)
    if found:
        log.warning("%s", in_one_line(found))
    for difference in found:
        if (difference.name, difference.field) == (
            f"{subjects.JOBS_STREAM} {subjects.GPU_WORKER_CONSUMER}",
            "ack_wait",
        ):
            # A worker that sends its keep-alives by another deadline than the server's would lose its jobs.
            settings = msgspec.structs.replace(settings, job_ack_wait_secs=seconds(difference.present))
    return settings


async def compare(js: JetStreamContext, settings: BrokerSettings, create: bool = False) -> list[Difference]:
    """Return how the server differs from `settings`. With `create` whatever is missing is created instead of reported.

    Raises Refused, Unavailable.
    """
    found: list[Difference] = []
    for config in [*streams(settings), *buckets(settings)]:
        share = takes_share(config)
        there = await api.stream(js, config, create=create, with_share=share)
        found += differences(str(config.name), api.declared(config), there, limited=share)
    for stream, consumer in consumers(settings).items():
        there = await api.consumer(js, stream, consumer, create=create)
        found += differences(f"{stream} {consumer.durable_name}", api.declared(consumer), there)
    return found


async def is_made(js: JetStreamContext, settings: BrokerSettings) -> bool:
    """Whether the queue of jobs exists, which is created first. Raises Refused, Unavailable."""
    [jobs, *_] = streams(settings)
    return await api.stream(js, jobs, create=False) is not None
