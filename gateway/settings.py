"""The gateway's settings: environment variables with the names of the fields in capitals."""

from typing import Annotated

import msgspec

from broker.settings import BrokerSettings
from gateway.admission import JobsWhenUnloaded
from gateway.outbound.addresses import Network, parse_networks
from gateway.webhooks.schedule import BACKOFF_SECS, parse_backoff
from gateway.webhooks.signing import parse_secrets


class GatewaySettings(BrokerSettings, kw_only=True, frozen=True):
    """See docs/USAGE.md for each setting. Names that end in `_secs` are seconds."""

    # All interfaces, because a container's port is published on purpose. `up` binds to the loopback address.
    host: str = "0.0.0.0"  # noqa: S104
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    """0 is any free port, which the log names."""
    listen_fd: int | None = None
    """File descriptor of an inherited socket to serve on in place of HOST and PORT. `up` binds it before it starts anything."""
    instance_id: str = ""
    """Shown by the probes, so that the program which has started this gateway can tell it from another one."""
    jobs_when_unloaded: JobsWhenUnloaded = JobsWhenUnloaded.REFUSE
    """`refuse` answers 503 while no model is ready; `queue` takes jobs at any time."""
    upload_idle_timeout_secs: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """An upload that sends nothing for this time is given up. Its whole duration has no limit."""
    max_upload_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """A larger upload is refused; 0 means no limit but the room in the audio bucket."""
    sse_heartbeat_secs: Annotated[float, msgspec.Meta(gt=0)] = 15.0
    sse_buffer: Annotated[int, msgspec.Meta(ge=1)] = 1024
    """How many events may wait for one slow client. Beyond that it is dropped, and may resume with Last-Event-ID."""
    send_timeout_secs: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """A client that takes nothing of what it is sent for this time is disconnected (Linux only)."""
    sweep_interval_secs: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """How often the gateway looks for audio that nobody needs any more."""
    webhook_secret: str = ""
    """Signs deliveries. While secrets are rotated, two of them separated by a comma."""
    webhook_backoff: str = ",".join(f"{secs:g}" for secs in BACKOFF_SECS)
    """Seconds before each attempt after the first, separated by commas."""
    webhook_failing_secs: Annotated[float, msgspec.Meta(ge=0)] = 24 * 3600.0
    """A URL to which all deliveries of this time have failed gets no events of the model, until one succeeds again."""
    webhook_allow_cidrs: str = ""
    """Networks that webhooks may be sent to, beside the public internet, separated by commas."""

    def __post_init__(self) -> None:
        """Check the variables that are parsed later. Raises ValueError with the name of the bad one."""
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
        """The keys that deliveries are signed with, the new one first."""
        return parse_secrets(self.webhook_secret)

    def backoff(self) -> tuple[float, ...]:
        """Seconds before each attempt after the first."""
        return parse_backoff(self.webhook_backoff)

    def networks(self) -> list[Network]:
        """Networks that webhooks may be sent to, beside the public internet."""
        return parse_networks(self.webhook_allow_cidrs)
