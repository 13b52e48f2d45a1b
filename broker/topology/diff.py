"""Compares configurations of streams and consumers: what the server has with what we declare. Pure.

Configurations are those of JetStream's JSON API. Only fields that decide how messages are kept and delivered are compared. Limits,
placement, compression and descriptions that we do not declare belong to the operator.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

NANOSECONDS = 1_000_000_000
"""Of one second: the unit of durations in JetStream's API."""
LIMITS = frozenset({"max_age", "max_bytes", "max_msgs", "max_msgs_per_subject", "max_deliver"})
"""Fields in which nothing, 0 and -1 all mean that there is no limit."""
DURATIONS = frozenset({"max_age", "duplicate_window", "ack_wait"})
"""Fields in nanoseconds."""
SWITCHES = frozenset(
    {
        *("allow_direct", "allow_rollup_hdrs", "deny_delete", "deny_purge", "allow_msg_ttl"),
        *("discard_new_per_subject", "headers_only"),
    }
)
"""Fields in which nothing means false."""
STREAM_FIELDS = (
    *(
        "subjects",
        "retention",
        "storage",
        "num_replicas",
        "max_age",
        "max_msgs_per_subject",
        "duplicate_window",
    ),
    *(
        "discard",
        "discard_new_per_subject",
        "republish",
        "allow_direct",
        "allow_rollup_hdrs",
        "allow_msg_ttl",
    ),
    *("deny_delete", "deny_purge"),
)
"""Compared fields of a stream."""
CONSUMER_FIELDS = (
    *("filter_subjects", "deliver_policy", "ack_policy", "ack_wait", "max_deliver", "max_ack_pending"),
    "headers_only",
)
"""Compared fields of a consumer."""
ONLY_IF_ASKED = ("max_bytes", "max_msgs")
"""Limits that operators may set: compared where we declare a value."""
FIXED = frozenset({"retention", "storage", "deliver_policy", "ack_policy"})
"""Fields that nats-server never changes on a stream or consumer that exists."""
ONE_WAY = frozenset({"deny_delete", "deny_purge", "allow_msg_ttl"})
"""Fields that nats-server lets be switched on, but not off."""
MISSING, SHARE = "missing", "a share of the store"
"""Texts of the two differences that have no plain value."""


class Difference(msgspec.Struct, kw_only=True, frozen=True):
    """A setting of a stream, bucket or consumer that differs from our declaration."""

    name: str
    """Name of the stream; for a consumer its stream and its name."""
    field: str
    """Name of the field in JetStream's API; empty where the stream or consumer is missing."""
    present: Any = None
    wanted: Any = None

    @property
    def is_missing(self) -> bool:
        """Whether the stream or consumer does not exist."""
        return not self.field

    @property
    def can_be_changed(self) -> bool:
        """Whether nats-server changes this on a stream or consumer that exists."""
        return self.field not in FIXED and not (self.field in ONE_WAY and self.present)

    @property
    def why_fixed(self) -> str:
        """What to do about a difference that cannot be changed, as a sentence."""
        kind = "consumer" if " " in self.name else "stream"
        return (
            f"nats-server decides {self.field} when a {kind} is made and never changes it: let the queue run empty, remove "
            f"the {kind} with the `nats` command, and a gateway or worker makes it anew at its next start"
        )

    @property
    def change(self) -> str:
        """The difference as a text without the name, because the same change is often due on many streams."""
        if self.is_missing:
            return MISSING
        return (
            f"{self.field} is {in_words(self.field, self.present)}, not {in_words(self.field, self.wanted)}"
        )

    @property
    def done(self) -> str:
        """The text once the change is made."""
        return "made" if self.is_missing else f"{self.field} is {in_words(self.field, self.wanted)} now"


def differences(
    name: str, wanted: Mapping[str, Any], present: Mapping[str, Any] | None, limited: bool = False
) -> list[Difference]:
    """Return how `present`, the configuration on the server, differs from `wanted`; `present` is None where it is missing.

    With `limited` there must be a max_bytes, but any value will do.
    """
    if present is None:
        return [Difference(name=name, field="")]
    fields = CONSUMER_FIELDS if "ack_policy" in wanted else STREAM_FIELDS
    asked = [field for field in ONLY_IF_ASKED if normal(field, wanted) is not None]
    found = [
        Difference(name=name, field=field, present=normal(field, present), wanted=normal(field, wanted))
        for field in (*fields, *asked)
        if normal(field, present) != normal(field, wanted)
    ]
    if limited and normal("max_bytes", present) is None:
        found.append(Difference(name=name, field="max_bytes", present=None, wanted=SHARE))
    return found


def normal(field: str, config: Mapping[str, Any]) -> Any:
    """Return the value of a field, the same for all ways of writing the same thing."""
    value = config.get(field)
    if field == "filter_subjects":
        return sorted(value or filter(None, [config.get("filter_subject")]))
    if field == "subjects":
        return sorted(value or [])
    if field in SWITCHES:
        return bool(value)
    if field in LIMITS:
        return value if value is not None and value > 0 else None
    if isinstance(value, dict):
        return {key: entry for key, entry in value.items() if entry}
    return value


def changed(present: Mapping[str, Any], found: list[Difference]) -> dict[str, Any]:
    """Return `present` with the wanted values where they can be changed. All other fields stay as the operator has them."""
    config = dict(present)
    for difference in found:
        if not difference.can_be_changed or difference.wanted == SHARE:
            continue
        if difference.field == "filter_subjects":
            config.pop("filter_subject", None)
        if difference.wanted is None and difference.field in LIMITS:
            config[difference.field] = 0 if difference.field in DURATIONS else -1
        else:
            config[difference.field] = difference.wanted
    return config


def seconds(nanoseconds: int | float) -> float:
    """Convert a duration of JetStream's API to seconds."""
    return nanoseconds / NANOSECONDS


def in_words(field: str, value: Any) -> str:
    """Return the value of a field as a text for people."""
    if value is None:
        return "unlimited" if field in LIMITS else "nothing"
    if isinstance(value, bool):
        return "on" if value else "off"
    if field in DURATIONS:
        return _duration(seconds(value))
    if field == "max_bytes" and isinstance(value, int):
        return f"{value:,} bytes"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "nothing"
    if isinstance(value, dict):
        return " ".join(f"{key}={entry}" for key, entry in sorted(value.items()))
    return str(value)


def _duration(secs: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if secs >= unit and secs % unit == 0:
            return f"{secs / unit:g} {name}"
    return f"{secs:g} s"


def in_one_line(found: list[Difference]) -> str:
    """Return all differences as one line for the log, with what to do about them."""
    by_change: dict[str, list[str]] = {}
    for difference in found:
        by_change.setdefault(difference.change, []).append(difference.name)
    changes = "; ".join(f"{change} ({', '.join(names)})" for change, names in by_change.items())
    return (
        f"nats-server has other settings than this process asks for, and they are left as they are: {changes}. "
        "`whisper-jetstream topology apply` changes them."
    )
