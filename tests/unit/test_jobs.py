"""Requests and options: what is accepted, and that the offending field is named."""

from datetime import UTC, datetime

import _pywhispercpp as pw
import msgspec
import pytest

from schemas import subjects
from schemas.errors import HTTP_STATUS, ErrorCode, RequestError
from schemas.jobs import JobRequest
from schemas.languages import LANGUAGES
from schemas.options import Task, TranscribeOptions
from schemas.settings import SettingsError, from_environment
from schemas.submission import parse_request, request_from_form, submitted

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_languages_are_those_of_the_engine() -> None:
    assert {pw.whisper_lang_str(i) for i in range(pw.whisper_lang_max_id() + 1)} == LANGUAGES


def test_an_empty_request_is_complete() -> None:
    assert parse_request(b"{}") == JobRequest()


def test_unknown_fields_are_tolerated() -> None:
    body = b'{"new": 1, "options": {"language": "de"}}'
    assert parse_request(body).options == TranscribeOptions(language="de")


def test_a_submission_says_only_what_differs_from_the_defaults() -> None:
    request = JobRequest(filename="a", options=TranscribeOptions(language="de"), created_at=NOW)
    body = submitted(request)
    assert msgspec.json.decode(body)["options"] == {"language": "de"}
    assert parse_request(body) == request


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", ErrorCode.INVALID_REQUEST, None),
        (b"[]", ErrorCode.INVALID_REQUEST, None),
        (b'{"v": 2}', ErrorCode.INVALID_REQUEST, "v"),
        (b'{"audio": 3}', ErrorCode.INVALID_OPTION, "audio"),
        (b'{"created_at": "2026-11-24T10:00:00"}', ErrorCode.INVALID_OPTION, "created_at"),
        (b'{"webhook_url": "ftp://a/b"}', ErrorCode.INVALID_OPTION, "webhook_url"),
        (b'{"webhook_url": "http://"}', ErrorCode.INVALID_OPTION, "webhook_url"),
        (b'{"webhook_url": "http://a:99999/"}', ErrorCode.INVALID_OPTION, "webhook_url"),
        (b'{"webhook_url": "http://[::1"}', ErrorCode.INVALID_OPTION, "webhook_url"),
        (b'{"options": {"later": [2], "language": "de"}}', ErrorCode.INVALID_OPTION, "later"),
        (b'{"options": {"Language": "de"}}', ErrorCode.INVALID_OPTION, "Language"),
        (b'{"options": {"filename": "a"}}', ErrorCode.INVALID_OPTION, "filename"),
        (b'{"options": {"": null}}', ErrorCode.INVALID_OPTION, ""),
        (b'{"options": {"language": "xx"}}', ErrorCode.INVALID_OPTION, "language"),
        (b'{"options": {"language": ""}}', ErrorCode.INVALID_OPTION, "language"),
        (b'{"options": {"task": "sing"}}', ErrorCode.INVALID_OPTION, "task"),
        (b'{"options": {"vad": "no"}}', ErrorCode.INVALID_OPTION, "vad"),
        (b'{"options": {"beam_size": 0}}', ErrorCode.INVALID_OPTION, "beam_size"),
        (b'{"options": {"beam_size": 9}}', ErrorCode.INVALID_OPTION, "beam_size"),
        (b'{"options": {"temperature": 1.5}}', ErrorCode.INVALID_OPTION, "temperature"),
    ],
)
def test_bad_requests_name_their_field(body: bytes, code: ErrorCode, field: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        parse_request(body)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert caught.value.problem().status == HTTP_STATUS[code][0]


def test_a_prompt_has_a_limit() -> None:
    with pytest.raises(RequestError) as caught:
        parse_request(msgspec.json.encode({"options": {"prompt": "x" * 1001}}))
    assert caught.value.field == "prompt"


def test_form_fields_become_options() -> None:
    fields = {
        "language": "de",
        "task": "translate",
        "vad": "false",
        "beam_size": "3",
        "webhook_url": "https://h/x",
        "words": "",
    }
    request = request_from_form(fields, "a.wav", NOW)
    assert request.options == TranscribeOptions(language="de", task=Task.TRANSLATE, vad=False, beam_size=3)
    assert (request.webhook_url, request.filename, request.created_at) == ("https://h/x", "a.wav", NOW)
    assert parse_request(msgspec.json.encode(request)) == request


@pytest.mark.parametrize(("name", "value"), [("vad", "maybe"), ("beam_size", "many"), ("lang", "de")])
def test_bad_form_fields_are_named(name: str, value: str) -> None:
    with pytest.raises(RequestError) as caught:
        request_from_form({name: value}, None, NOW)
    assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID_OPTION, name)


@pytest.mark.parametrize("text", ["a", "A-b_9", "x" * 64])
def test_job_ids(text: str) -> None:
    assert subjects.is_job_id(text)
    assert subjects.topic(subjects.event(text, "done")) == subjects.job_topic(text)
    assert subjects.last_token(subjects.submit(text)) == text


@pytest.mark.parametrize("text", ["", "a.b", "a b", "*", ">", "x" * 65, "ü", "a\n"])
def test_what_is_no_job_id(text: str) -> None:
    assert not subjects.is_job_id(text)


def test_the_models_of_all_workers_are_one_topic_and_no_job() -> None:
    topics = {subjects.topic(subjects.model_event(worker, "model_ready")) for worker in ("w1", "w2")}
    assert topics == {subjects.MODEL_EVENTS_PREFIX}
    assert subjects.job_topic("model") not in topics


def test_settings_come_from_the_environment_and_name_the_variable() -> None:
    class Settings(msgspec.Struct, kw_only=True):
        port: int = 8080
        vad: bool = True

    assert from_environment(Settings, {"PORT": "81", "VAD": "false", "OTHER": "x"}) == Settings(
        port=81, vad=False
    )
    assert from_environment(Settings, {"PORT": ""}) == Settings()
    with pytest.raises(SettingsError, match="PORT"):
        from_environment(Settings, {"PORT": "eighty"})
