"""A rolling upgrade: what the next version says is read by this one, wherever it says it."""

import json
from contextlib import suppress
from typing import Any, get_args

import msgspec
import pytest

from schemas import inputs, subjects
from schemas.enums import Asked, Told
from schemas.errors import ErrorCode, RequestError
from schemas.events import JobEvent
from schemas.inputs import INPUTS, Unreadable
from schemas.jobs import JobStatus, WebhookEvent
from schemas.model import ModelState
from schemas.options import Task
from schemas.submission import parse_request
from tests.support.samples import NONSENSE, Sample, samples

SAMPLES = samples("job-1")
NEW_WORD = "sparkle"


def places_of_enums(value: Any, kind: object) -> list[tuple[str | int, ...]]:
    """Paths in a sample's JSON at which a value of a tolerant enum stands: those of a struct decoded from it."""
    if isinstance(value, Told | Asked):
        return [()]
    if isinstance(value, msgspec.Struct):
        return [
            (field.encode_name, *path)
            for field in msgspec.structs.fields(value)
            for path in places_of_enums(getattr(value, field.name), kind)
        ]
    if isinstance(value, list | tuple):
        return [(i, *path) for i, item in enumerate(value) for path in places_of_enums(item, kind)]
    return []


def replaced(body: bytes, path: tuple[str | int, ...], new: object) -> bytes:
    document = json.loads(body)
    *way, last = path
    at = document
    for step in way:
        at = at[step]
    at[last] = new
    return json.dumps(document).encode()


def with_new_fields(value: Any) -> Any:
    if isinstance(value, dict):
        return {NEW_WORD: {"deep": [1]}, **{key: with_new_fields(inner) for key, inner in value.items()}}
    return [with_new_fields(inner) for inner in value] if isinstance(value, list) else value


def read(sample: Sample, body: bytes) -> Any:
    if sample.kind == "job event":
        return inputs.job_event(sample.subject, body)
    return sample.input.read(body)


def test_every_kind_has_a_sample_and_every_sample_is_valid() -> None:
    assert {sample.kind for sample in SAMPLES} | {"model reply"} == set(INPUTS)
    for sample in SAMPLES:
        assert read(sample, sample.body) is not None, sample
    told = {type(read(sample, sample.body)) for sample in SAMPLES if sample.kind == "job event"}
    assert len(told) == len(get_args(JobEvent)) - 1, "all but `cancelled`, which is as `done`"


@pytest.mark.parametrize(
    "sample", [s for s in SAMPLES if s.kind != "list request"], ids=lambda sample: sample.subject
)
def test_new_fields_are_passed_over(sample: Sample) -> None:
    body = json.dumps(with_new_fields(json.loads(sample.body))).encode()
    assert read(sample, body) == read(sample, sample.body)


@pytest.mark.parametrize(
    ("sample", "path"),
    [
        pytest.param(sample, path, id=f"{sample.subject} {'.'.join(map(str, path))}")
        for sample in SAMPLES
        for path in places_of_enums(read(sample, sample.body), None)
    ],
)
def test_a_new_value_of_any_enum_is_read(sample: Sample, path: tuple[str | int, ...]) -> None:
    body = replaced(sample.body, path, NEW_WORD)
    if sample.kind == "job event" and path[-2:] == ("record", "status"):
        with pytest.raises(Unreadable):  # an event of an end, whose record has none
            read(sample, body)
        return
    assert read(sample, body) is not None


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.subject)
def test_another_version_number_is_read_where_it_is_no_submission(sample: Sample) -> None:
    document = json.loads(sample.body)
    if "v" in document:
        assert read(sample, json.dumps({**document, "v": 2}).encode()) is not None


def test_what_is_told_reads_as_unknown_and_what_was_asked_for_is_kept() -> None:
    assert JobStatus(NEW_WORD) is JobStatus.UNKNOWN
    assert ErrorCode(NEW_WORD) is ErrorCode.UNKNOWN
    assert ModelState(NEW_WORD) is ModelState.UNKNOWN
    for kind in (Task, WebhookEvent):
        kept = kind(NEW_WORD)
        assert (kept, kept.is_known) == (NEW_WORD, False)
        assert msgspec.json.encode(kept) == f'"{NEW_WORD}"'.encode()
        assert all(member.is_known for member in kind)


@pytest.mark.parametrize("field", ["task", "webhook_events"])
def test_a_submission_that_asks_for_something_new_is_refused_by_its_field(field: str) -> None:
    asked: dict[str, Any] = (
        {"webhook_events": [NEW_WORD]} if field != "task" else {"options": {"task": NEW_WORD}}
    )
    with pytest.raises(RequestError) as caught:
        parse_request(json.dumps(asked).encode())
    assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID_OPTION, field)


def test_a_new_option_is_refused_in_a_submission_and_passed_over_everywhere_else() -> None:
    """The samples of all kinds have new fields everywhere (test_new_fields_are_passed_over), also in the options of records."""
    with pytest.raises(RequestError) as caught:
        parse_request(json.dumps({"options": {NEW_WORD: 1}}).encode())
    assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID_OPTION, NEW_WORD)
    assert parse_request(json.dumps({NEW_WORD: 1}).encode()) == parse_request(b"{}")


def test_a_submission_of_another_version_is_refused() -> None:
    with pytest.raises(RequestError) as caught:
        parse_request(b'{"v": 2}')
    assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID_REQUEST, "v")


@pytest.mark.parametrize("body", NONSENSE, ids=lambda body: repr(body[:24]))
@pytest.mark.parametrize("kind", INPUTS)
def test_nonsense_ends_in_one_place(kind: str, body: bytes) -> None:
    """As an object or as Unreadable: nothing else comes out."""
    with suppress(Unreadable):
        INPUTS[kind].read(body)


def test_the_reason_is_a_sentence_of_bounded_length() -> None:
    with pytest.raises(Unreadable) as caught:
        INPUTS["submission"].read(b'{"options": {"task": "' + b"x" * 700_000 + b'"}}')
    assert len(str(caught.value)) <= 2000


def test_an_event_is_about_what_its_subject_says() -> None:
    started = next(s for s in SAMPLES if s.subject.endswith(".started"))
    for subject in (subjects.event("job-2", "started"), subjects.event("job-1", "progress")):
        with pytest.raises(Unreadable):
            inputs.job_event(subject, started.body)
    record = next(s for s in SAMPLES if s.kind == "record")
    with pytest.raises(Unreadable):
        inputs.record("job-2", record.body)
