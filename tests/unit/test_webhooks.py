"""Webhooks: when to try again, where to, with which signature, and what is told of which event."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gateway.outbound.addresses import is_allowed, parse_networks
from gateway.settings import GatewaySettings
from gateway.webhooks.schedule import (
    BACKOFF_SECS,
    Decision,
    Delivered,
    Drop,
    GiveUp,
    TryAgain,
    Unregister,
    after_try,
    parse_backoff,
)
from gateway.webhooks.signing import headers, parse_secrets
from schemas.events import Done, JobCancelled, JobEvent, JobFailed, Progress, SegmentAdded, Started
from schemas.jobs import JobRecord, JobRequest, JobStatus, Segment, WebhookEvent, to_job
from schemas.settings import SettingsError, from_environment
from schemas.webhooks import job_delivery, job_notice

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("number", "status", "expected"),
    [
        (1, 200, Delivered()),
        (6, 299, Delivered()),
        (1, 500, TryAgain(1.0)),
        (2, None, TryAgain(2.0)),
        (3, 302, TryAgain(4.0)),
        (4, 404, TryAgain(8.0)),
        (5, 199, TryAgain(16.0)),
        (6, 500, GiveUp()),
        (7, None, GiveUp()),
        (1, 410, Unregister()),
        (6, 410, Unregister()),
    ],
)
def test_after_a_try(number: int, status: int | None, expected: Decision) -> None:
    assert after_try(number, status, BACKOFF_SECS) == expected


@pytest.mark.parametrize(
    ("status", "expected"), [(200, Delivered()), (500, Drop()), (None, Drop()), (410, Unregister())]
)
def test_progress_is_tried_once(status: int | None, expected: Decision) -> None:
    assert after_try(1, status, BACKOFF_SECS, once=True) == expected


def test_another_schedule() -> None:
    assert parse_backoff("0.1, 5") == (0.1, 5.0)
    assert after_try(1, 500, parse_backoff("")) == GiveUp()
    for bad in ("x", "-1", "1e9"):
        with pytest.raises(ValueError, match=r"."):
            parse_backoff(bad)


PUBLIC = ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
REFUSED = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "224.0.0.1", "239.1.1.1", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254",
    "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(address, [])


@pytest.mark.parametrize("address", REFUSED)
def test_all_others_are_not(address: str) -> None:
    assert not is_allowed(address, [])


def test_networks_can_be_allowed() -> None:
    home = parse_networks("192.168.1.0/24, fd00::/8,127.0.0.1")
    for address in ("192.168.1.7", "::ffff:192.168.1.7", "fd00::1", "127.0.0.1"):
        assert is_allowed(address, home)
    for address in ("192.168.2.7", "127.0.0.2", "::1"):
        assert not is_allowed(address, home)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the library standardwebhooks' own tests."""
    sent = headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330, UTC),
        b'{"test": 2432232314}',
        parse_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    )
    assert sent["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert sent["webhook-timestamp"] == "1614265330"
    assert sent["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_two_secrets_give_two_signatures_and_none_gives_none() -> None:
    both = headers("i", NOW, b"x", parse_secrets("new,old"))["webhook-signature"].split(" ")
    alone = [headers("i", NOW, b"x", parse_secrets(s))["webhook-signature"] for s in ("new", "old")]
    assert both == alone
    assert "webhook-signature" not in headers("i", NOW, b"x", [])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("WEBHOOK_SECRET", "a,b,c", "WEBHOOK_SECRET: there can be 2"),
        ("WEBHOOK_SECRET", "whsec_!", "WEBHOOK_SECRET: what follows whsec_"),
        ("WEBHOOK_BACKOFF", "1,soon", "WEBHOOK_BACKOFF: "),
        ("WEBHOOK_ALLOW_CIDRS", "10.0.0.1/8", "WEBHOOK_ALLOW_CIDRS: "),
    ],
)
def test_settings_that_cannot_be_understood_are_named(name: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        from_environment(GatewaySettings, {name: value})


def record(status: JobStatus = JobStatus.RUNNING, *wanted: WebhookEvent) -> JobRecord:
    request = JobRequest(webhook_url="https://example.com/hook")
    if wanted:
        request = msgspec.structs.replace(request, webhook_events=wanted)
    return JobRecord(id="j", status=status, request=request, created_at=NOW, progress=10)


EVENTS: dict[WebhookEvent, JobEvent] = {
    WebhookEvent.STARTED: Started(job_id="j", at=NOW, worker_id="w", attempt=1),
    WebhookEvent.PROGRESS: Progress(job_id="j", at=NOW, percent=42),
    WebhookEvent.COMPLETED: Done(job_id="j", at=NOW, record=record(JobStatus.DONE)),
    WebhookEvent.FAILED: JobFailed(job_id="j", at=NOW, record=record(JobStatus.FAILED)),
    WebhookEvent.CANCELLED: JobCancelled(job_id="j", at=NOW, record=record(JobStatus.CANCELLED)),
}


@pytest.mark.parametrize("kind", WebhookEvent)
def test_only_what_was_asked_for_is_told(kind: WebhookEvent) -> None:
    told = job_delivery(EVENTS[kind], record(JobStatus.RUNNING, kind), 7)
    assert told is not None
    assert (told.type, told.number) == (kind, 1)
    others = tuple(other for other in WebhookEvent if other is not kind)
    assert job_delivery(EVENTS[kind], record(JobStatus.RUNNING, *others), 7) is None


def test_the_terminal_ones_are_told_by_default() -> None:
    told = {kind for kind, event in EVENTS.items() if job_delivery(event, record(), 7)}
    assert told == {WebhookEvent.COMPLETED, WebhookEvent.FAILED, WebhookEvent.CANCELLED}
    segment = SegmentAdded(job_id="j", at=NOW, segment=Segment(index=0, start=0, end=1, text=" a"))
    assert job_delivery(segment, record(), 7) is None


def test_progress_has_one_id_a_second_and_the_others_one_each() -> None:
    def identity(event: JobEvent, seq: int) -> str:
        told = job_delivery(event, record(JobStatus.RUNNING, *WebhookEvent), seq)
        assert told is not None
        return told.id

    def progress(secs: float) -> Progress:
        return Progress(job_id="j", at=NOW + timedelta(seconds=secs), percent=42)

    assert identity(progress(0.1), 1) == identity(progress(0.9), 2) != identity(progress(1.0), 3)
    started = EVENTS[WebhookEvent.STARTED]
    assert identity(started, 1) != identity(started, 2)


def test_a_notice_is_the_job_with_a_type() -> None:
    told = job_delivery(EVENTS[WebhookEvent.PROGRESS], record(JobStatus.RUNNING, WebhookEvent.PROGRESS), 7)
    assert told is not None
    assert told.record is not None
    body = msgspec.json.decode(
        msgspec.json.encode(job_notice(WebhookEvent.PROGRESS, to_job(told.record, [])))
    )
    assert (body["type"], body["id"], body["status"], body["progress"]) == ("progress", "j", "running", 42)
