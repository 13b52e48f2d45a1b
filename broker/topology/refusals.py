"""Why JetStream refuses a stream or consumer, as a sentence for the operator of the server. Pure."""

from collections.abc import Mapping
from typing import Any

NO_PEERS, REPLICAS_WITHOUT_CLUSTER, SUBJECTS_OVERLAP = 10005, 10074, 10065
NOT_FOR_ACCOUNT, NOT_ENABLED = 10039, 10076
ACCOUNT_LIMIT, SERVER_LIMIT, STREAM_LIMIT, MAX_BYTES_REQUIRED = 10002, 10047, 10122, 10113
"""JetStream error codes (nats-server's server/errors.json)."""
TOO_LARGE = frozenset({NO_PEERS, ACCOUNT_LIMIT, SERVER_LIMIT, STREAM_LIMIT})
"""Codes of refusals that a smaller max_bytes may avoid."""


def refusal(code: int, description: str, config: Mapping[str, Any], others: list[str]) -> str:
    """Return the sentence for an error code and its description. `others` are streams that have one of the subjects."""
    name, replicas = config.get("name", "it"), config.get("num_replicas")
    match code:
        case _ if code == REPLICAS_WITHOUT_CLUSTER:
            return f"NATS_REPLICAS={replicas}, but this nats-server is in no cluster: {name} can have one replica only"
        case _ if code == NO_PEERS and replicas and replicas > 1:
            return (
                f"NATS_REPLICAS={replicas}, but the cluster has no room for so many of {name} ({description})"
            )
        case _ if code == SUBJECTS_OVERLAP:
            taken = ", ".join(sorted(set(others))) or "another stream"
            return (
                f"{name} cannot be made: {taken} has its subjects ({', '.join(config['subjects'])}) already; "
                "remove that stream or give this service an account of its own"
            )
        case _ if code in (NOT_FOR_ACCOUNT, NOT_ENABLED):
            return f"JetStream is not enabled for this account ({description})"
        case _ if code in TOO_LARGE:
            asked = f" with max_bytes={config['max_bytes']:,}" if config.get("max_bytes", -1) > 0 else ""
            return (
                f"the store of nats-server has no room for {name}{asked} ({description}); see AUDIO_MAX_BYTES"
            )
        case _ if code == MAX_BYTES_REQUIRED:
            return f"this account wants a max_bytes for each stream, and {name} has none ({description})"
        case _:
            return f"nats-server refuses {name}: {description} ({code})"
