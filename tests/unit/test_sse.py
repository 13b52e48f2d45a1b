"""Server-sent event framing."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from gateway.streaming.sse import HEARTBEAT, frame, last_event_id, render
from schemas.events import Done, Progress, SegmentAdded, Started
from schemas.jobs import JobRecord, JobRequest, JobStatus, Segment, to_job

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def parsed(data: bytes | None) -> tuple[str | None, str, dict[str, object]]:
    assert data is not None
    assert data.endswith(b"\n\n")
    lines = dict(line.split(": ", 1) for line in data.decode().strip().split("\n"))
    return lines.get("id"), lines["event"], json.loads(lines["data"])


def test_progress_has_the_shape_of_the_contract() -> None:
    body = msgspec.json.encode(Progress(job_id="j", at=NOW, percent=42))
    assert parsed(render("progress", body, "j", 7)) == (
        "7",
        "progress",
        {"type": "progress", "percent": 42},
    )


def test_text_with_line_breaks_stays_in_one_data_line() -> None:
    segment = Segment(index=0, start=0, end=1, text=" a\nb\r\n\u2028c")
    body = msgspec.json.encode(SegmentAdded(job_id="j", at=NOW, segment=segment))
    sent = render("segment", body, "j", 8)
    assert sent is not None
    assert sent.count(b"\n") == 4
    _, _, data = parsed(sent)
    assert msgspec.convert(data["segment"], Segment) == segment


def test_the_end_carries_the_job_and_is_rendered_elsewhere() -> None:
    record = JobRecord(id="j", status=JobStatus.DONE, request=JobRequest(), created_at=NOW)
    job = to_job(record, [Segment(index=0, start=0, end=1, text=" one")])
    identity, kind, data = parsed(frame("done", {"job": job}, 9))
    assert (identity, kind, data["type"]) == ("9", "done", "done")
    assert msgspec.convert(data["job"], type(job)) == job
    assert render("done", msgspec.json.encode(Done(job_id="j", at=NOW, record=record)), "j", 9) is None


def test_queued_and_started() -> None:
    assert parsed(render("queued", b"not even json", "j", 1))[2] == {"type": "queued", "job_id": "j"}
    body = msgspec.json.encode(Started(job_id="j", at=NOW, worker_id="w", attempt=2))
    assert parsed(render("started", body, "j", 2))[2]["attempt"] == 2


def test_events_of_a_later_version_are_left_out() -> None:
    assert render("sparkle", b"{}", "j", 3) is None


def test_a_heartbeat_is_one_comment_line() -> None:
    assert HEARTBEAT == b":\n"


def test_an_event_without_a_place_in_the_log_has_no_id() -> None:
    assert parsed(frame("done", {}, None))[0] is None


@pytest.mark.parametrize(
    ("text", "expected"), [("17", 17), (None, 0), ("", 0), ("-1", 0), ("x", 0), ("²", 0), ("9" * 30, 0)]
)
def test_last_event_id(text: str | None, expected: int) -> None:
    assert last_event_id(text) == expected
