"""The gateway's settings: environment variables of the same names in capitals."""

from typing import Annotated

import msgspec

from broker.connection import BrokerSettings
from gateway.admission import JobsWhenUnloaded
from gateway.webhooks.addresses import Network, parse_networks
from gateway.webhooks.schedule import BACKOFF_SECS, parse_backoff
from gateway.webhooks.signing import parse_secrets


class GatewaySettings(BrokerSettings, kw_only=True, frozen=True):
    log_level: str = "info"
    host: str = "0.0.0.0"  # noqa: S104 - a container's port is published on purpose; `up` binds to the loopback address
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    """0 is any free port; the log tells which."""
    listen_fd: int | None = None
    """An inherited socket to serve on in place of HOST and PORT: `up` has bound it before anything was started."""
    instance_id: str = ""
    """Told by the probes, so that whoever has started this gateway knows it from another one."""
    jobs_when_unloaded: JobsWhenUnloaded = JobsWhenUnloaded.REFUSE
    """`refuse` answers 503 while no model is ready; `queue` takes jobs at any time."""
    upload_idle_timeout_secs: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """An upload that sends nothing for so long is given up. There is no limit on its whole duration or size."""
    max_upload_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """An upload that is larger is refused; 0: there is no limit but the room in the audio bucket."""
    sse_heartbeat_secs: Annotated[float, msgspec.Meta(gt=0)] = 15.0
    sse_buffer: Annotated[int, msgspec.Meta(ge=1)] = 1024
    """Events that may wait for one slow client; beyond that it is dropped and may resume with Last-Event-ID."""
    send_timeout_secs: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """A client that takes nothing of what it is sent for so long is disconnected (on Linux)."""
    sweep_interval_secs: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """How often audio that nobody needs any more is looked for."""
    webhook_secret: str = ""
    """Signs deliveries; two, divided by a comma, while they are rotated."""
    webhook_backoff: str = ",".join(f"{secs:g}" for secs in BACKOFF_SECS)
    """Seconds before each try after the first."""
    webhook_failing_secs: Annotated[float, msgspec.Meta(ge=0)] = 24 * 3600.0
    """A URL to which no delivery has succeeded for so long is told of the model's life no more, until one succeeds."""
    webhook_allow_cidrs: str = ""
    """Networks beside the public internet that webhooks may be sent to."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the variable that cannot be understood."""
        for name, parse in (
            ("WEBHOOK_SECRET", self.secrets),
            ("WEBHOOK_BACKOFF", self.backoff),
            ("WEBHOOK_ALLOW_CIDRS", self.networks),
        ):
            try:
                parse()
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

    def secrets(self) -> list[bytes]:
        return parse_secrets(self.webhook_secret)

    def backoff(self) -> tuple[float, ...]:
        return parse_backoff(self.webhook_backoff)

    def networks(self) -> list[Network]:
        return parse_networks(self.webhook_allow_cidrs)
