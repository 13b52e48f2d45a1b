"""The gateway's settings: environment variables of the same names in capitals."""

from typing import Annotated

import msgspec

from broker.connection import BrokerSettings
from gateway.workers import JobsWhenUnloaded


class GatewaySettings(BrokerSettings, kw_only=True, frozen=True):
    log_level: str = "info"
    host: str = "0.0.0.0"  # noqa: S104 - a container's port is published on purpose; `up` binds to the loopback address
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    """0 is any free port; the log tells which."""
    jobs_when_unloaded: JobsWhenUnloaded = JobsWhenUnloaded.REFUSE
    """`refuse` answers 503 while no model is ready; `queue` takes jobs at any time."""
    upload_idle_timeout_secs: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """An upload that sends nothing for so long is given up. There is no limit on its whole duration or size."""
    sse_heartbeat_secs: Annotated[float, msgspec.Meta(gt=0)] = 15.0
    sse_buffer: Annotated[int, msgspec.Meta(ge=1)] = 1024
    """Events that may wait for one slow client; beyond that it is dropped and may resume with Last-Event-ID."""
