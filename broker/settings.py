"""The settings that every process needs to reach nats-server: environment variables of the same names in capitals."""

from typing import Annotated

import msgspec

from process.start import ServiceSettings


class BrokerSettings(ServiceSettings, kw_only=True, frozen=True):
    """See docs/USAGE.md for each setting. Names that end in `_secs` are seconds."""

    nats_url: str = "nats://127.0.0.1:4222"
    """One server, or several servers of one cluster separated by commas: the first that answers is used."""
    nats_creds: str | None = None
    """Path of a credentials file."""
    nats_tls_ca: str | None = None
    """Path of the certificate authority that has signed the server's certificate; default: the system's."""
    nats_connect_timeout_secs: float = 60.0
    """How long the first connect is tried. After a later loss of the connection there is no limit."""
    nats_replicas: int = 1
    """Replicas of every stream and bucket; 3 on a cluster."""
    job_ack_wait_secs: float = 30.0
    """The ack deadline: a job whose worker has sent nothing for this time is delivered again."""
    job_retention_secs: float = 7 * 24 * 3600.0
    """How long records, results and events are kept."""
    audio_retention_secs: float = 0.0
    """How long audio is kept after its job has ended; 0 deletes it with the end."""
    audio_max_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Limit of the audio bucket, so that everything else always has room; 0 means a share of the server's store."""

    def servers(self) -> list[str]:
        """The URLs of the servers."""
        return [url for url in (part.strip() for part in self.nats_url.split(",")) if url]

    def addresses(self) -> str:
        """The servers as a text for people, without user names and passwords."""
        return ", ".join(url.split("://")[-1].rsplit("@", 1)[-1] for url in self.servers())
