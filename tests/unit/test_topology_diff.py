"""broker/topology/diff.py and topology_refusals.py: pure comparisons, and sentences."""

from typing import Any

import pytest

from broker.settings import BrokerSettings
from broker.topology import api, declarations
from broker.topology.diff import (
    CONSUMER_FIELDS,
    STREAM_FIELDS,
    SWITCHES,
    Difference,
    changed,
    differences,
    in_one_line,
    in_words,
    normal,
)
from broker.topology.refusals import TOO_LARGE, refusal

SETTINGS = BrokerSettings()
STREAMS = {
    str(config.name): api.declared(config)
    for config in [*declarations.streams(SETTINGS), *declarations.buckets(SETTINGS)]
}
CONSUMERS = {
    f"{stream} {config.durable_name}": api.declared(config)
    for stream, config in declarations.consumers(SETTINGS).items()
}
OTHER_VALUE: dict[str, Any] = {
    "subjects": ["elsewhere"],
    "retention": "interest",
    "storage": "memory",
    "num_replicas": 3,
    "max_age": 5_000_000_000,
    "max_msgs_per_subject": 77,
    "duplicate_window": 7_000_000_000,
    "discard": "neither",
    "republish": {"src": "a", "dest": "b"},
    "filter_subjects": ["elsewhere"],
    "deliver_policy": "last",
    "ack_policy": "all",
    "ack_wait": 1_000_000_000,
    "max_deliver": 7,
    "max_ack_pending": 77,
}
EVERY_FIELD = [(name, field) for name in STREAMS for field in STREAM_FIELDS] + [
    (name, field) for name in CONSUMERS for field in CONSUMER_FIELDS
]


def declared(name: str) -> dict[str, Any]:
    return (STREAMS | CONSUMERS)[name]


@pytest.mark.parametrize("name", [*STREAMS, *CONSUMERS])
def test_what_is_as_asked_does_not_differ(name: str) -> None:
    """Also with what a server adds, and with other ways of writing the same."""
    there = declared(name) | {"metadata": {"_nats.ver": "2"}, "compression": "s2", "description": "theirs"}
    for field in ("max_age", "max_msgs", "max_bytes", "max_msgs_per_subject", "max_deliver"):
        if normal(field, there) is None:
            there[field] = -1 if field != "max_age" else 0
    for field in SWITCHES:
        there.setdefault(field, False)
    assert differences(name, declared(name), there) == []


@pytest.mark.parametrize(("name", "field"), EVERY_FIELD)
def test_each_field_is_told_and_changed_alone(name: str, field: str) -> None:
    wanted = declared(name)
    there = dict(wanted)
    there[field] = not wanted.get(field) if field in SWITCHES else OTHER_VALUE[field]
    if field == "filter_subjects":
        there.pop("filter_subject", None)
    [difference] = differences(name, wanted, there)
    assert (difference.name, difference.field) == (name, field)
    assert field in difference.change
    if difference.can_be_changed:
        assert differences(name, wanted, changed(there, [difference])) == []
    else:
        assert changed(there, [difference]) == there
        assert "never changes it" in difference.why_fixed


def test_what_the_operator_has_added_stays() -> None:
    there = declared("WHISPER_JOBS") | {"max_msgs": 5, "placement": {"tags": ["ssd"]}, "num_replicas": 3}
    found = differences("WHISPER_JOBS", declared("WHISPER_JOBS"), there)
    assert [d.field for d in found] == ["num_replicas"]
    assert changed(there, found) == there | {"num_replicas": 1}


@pytest.mark.parametrize(
    ("max_bytes", "limited", "fields"), [(-1, True, ["max_bytes"]), (5, True, []), (-1, False, [])]
)
def test_any_limit_will_do_where_none_is_asked_for(max_bytes: int, limited: bool, fields: list[str]) -> None:
    wanted = declared(declarations.AUDIO_STREAM)
    found = differences(declarations.AUDIO_STREAM, wanted, wanted | {"max_bytes": max_bytes}, limited=limited)
    assert [d.field for d in found] == fields
    assert changed(wanted, found) == wanted, "how much that is the server must say"


def test_a_limit_that_is_asked_for_is_compared() -> None:
    settings = BrokerSettings(audio_max_bytes=1_000_000)
    wanted = api.declared(declarations.buckets(settings)[-1])
    [difference] = differences("OBJ", wanted, wanted | {"max_bytes": 5})
    assert difference.change == "max_bytes is 5 bytes, not 1,000,000 bytes"


def test_switching_off_what_can_only_be_switched_on() -> None:
    on = Difference(name="x", field="deny_delete", present=False, wanted=True)
    off = Difference(name="x", field="deny_delete", present=True, wanted=False)
    assert (on.can_be_changed, off.can_be_changed) == (True, False)


def test_one_line_for_all() -> None:
    found = [
        *(Difference(name=name, field="num_replicas", present=1, wanted=3) for name in ("A", "B")),
        Difference(name="C", field="max_age", present=7 * 86400 * 10**9, wanted=None),
        Difference(name="D", field=""),
    ]
    line = in_one_line(found)
    assert "num_replicas is 1, not 3 (A, B); max_age is 7 d, not unlimited (C); missing (D)" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("max_age", None, "unlimited"),
        ("max_age", 90 * 10**9, "90 s"),
        ("ack_wait", 60 * 10**9, "1 min"),
        ("max_age", 36 * 3600 * 10**9, "36 h"),
        ("max_bytes", 1234567, "1,234,567 bytes"),
        ("allow_direct", True, "on"),
        ("deny_delete", False, "off"),
        ("subjects", ["a", "b"], "a b"),
        ("subjects", [], "nothing"),
        ("republish", {"src": "a", "dest": "b"}, "dest=b src=a"),
        ("republish", None, "nothing"),
        ("storage", "file", "file"),
    ],
)
def test_values_in_words(field: str, value: object, words: str) -> None:
    assert in_words(field, value) == words


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (10074, "NATS_REPLICAS=3, but this nats-server is in no cluster"),
        (10005, "NATS_REPLICAS=3, but the cluster has no room"),
        (10065, "THEIRS has its subjects (a.>)"),
        (10039, "not enabled for this account"),
        (10113, "wants a max_bytes"),
        (99999, "because (99999)"),
        *((code, "no room for WHISPER_X with max_bytes=5,000") for code in sorted(TOO_LARGE - {10005})),
    ],
)
def test_refusals_in_a_sentence(code: int, words: str) -> None:
    config = {"name": "WHISPER_X", "num_replicas": 3, "subjects": ["a.>"], "max_bytes": 5000}
    sentence = refusal(code, "because", config, ["THEIRS"])
    assert words in sentence
    assert "\n" not in sentence


def test_a_refusal_of_something_unknown_has_its_sentence_too() -> None:
    assert refusal(0, "because", {}, []) == "nats-server refuses it: because (0)"
    assert "another stream" in refusal(10065, "because", {"name": "X", "subjects": ["a"]}, [])
