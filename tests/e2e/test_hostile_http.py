"""Requests that a careless or hostile client sends: each is answered with a problem, none with a 500, over real HTTP."""

import base64
import json
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from schemas.errors import ErrorCode
from tests.support.system import Gateway, System

PATIENCE_SECS = 10
FORM = b"multipart/form-data; boundary=xyz"
Headers = list[tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for all of them; what it had not foreseen is in its log."""
    folder = tmp_path_factory.mktemp("hostile")
    system = System(folder, folder / "no-model")
    try:
        gateway = system.gateway()
        yield gateway
        log = gateway.log.read_text()
        assert "Traceback" not in log, log
        assert gateway.stop() == 0
    finally:
        system.close()


def ask(gateway: Gateway, request: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of the answer to what is sent, whether or not that is HTTP."""
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as client:
        client.settimeout(PATIENCE_SECS)
        with suppress(OSError):  # it may be refused before its end, and that can be read
            client.sendall(request)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    while answer.startswith(b"HTTP/1.1 1"):  # told to go on
        answer = answer.partition(b"\r\n\r\n")[2]
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


def check(answer: tuple[int, dict[bytes, bytes], bytes]) -> tuple[int, str | None]:
    """Status and code of an answer that may be."""
    status, headers, body = answer
    if status < 400:
        return status, None
    assert status < 500, body
    assert headers[b"content-type"] == b"application/problem+json"
    problem = json.loads(body)
    assert problem["status"] == status
    assert problem["detail"]
    assert len(body) < 20_000
    return status, ErrorCode(problem["code"])


def request(
    target: str | bytes, method: str = "GET", headers: Headers | None = None, body: bytes = b""
) -> bytes:
    line = (
        method.encode() + b" " + (target.encode() if isinstance(target, str) else target) + b" HTTP/1.1\r\n"
    )
    fields = [(b"Host", b"x"), (b"Connection", b"close"), *(headers or [])]
    return line + b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\n" + body


def form(
    *parts: tuple[bytes, bytes], kind: bytes = FORM, headers: Headers | None = None, target: str = "/jobs"
) -> bytes:
    body = (
        b"".join(b"--xyz\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts) + b"--xyz--\r\n"
    )
    fields = [(b"Content-Type", kind), (b"Content-Length", str(len(body)).encode()), *(headers or [])]
    return request(target, "POST", fields, body)


def raw(
    kind: bytes = b"audio/mpeg", *, body: bytes = b"x", target: str = "/jobs", more: Headers | None = None
) -> bytes:
    """A body that is the audio."""
    fields = [(b"Content-Type", kind), (b"Content-Length", str(len(body)).encode()), *(more or [])]
    return request(target, "POST", fields, body)


LANGUAGE = b'Content-Disposition: form-data; name="language"'
AUDIO = (b'Content-Disposition: form-data; name="audio"; filename="a"', b"x")


def field(head: bytes, value: bytes = b"v") -> bytes:
    """A form with one more part, of these headers."""
    return form((head, value), AUDIO)


def prompt(value: bytes) -> bytes:
    return field(b'Content-Disposition: form-data; name="prompt"', value)


def named(name: bytes) -> bytes:
    return form((b"Content-Disposition: form-data; name=audio; " + name, b"x"))


def kind(value: bytes) -> bytes:
    return form(AUDIO, kind=value)


def with_header(name: bytes, value: bytes, target: str = "/jobs") -> bytes:
    return request(target, headers=[(name, value)])


def posted(name: bytes, value: bytes) -> bytes:
    return form(AUDIO, headers=[(name, value)])


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


OPTION, INVALID, ABSENT = (422, "invalid_option"), (400, "invalid_request"), (404, "not_found")
METHOD, MEDIA, EARLY = (
    (405, "method_not_allowed"),
    (415, "unsupported_media_type"),
    (400, "upload_incomplete"),
)
OK, TAKEN = (200, None), (202, None)

REQUESTS: dict[str, tuple[bytes, tuple[int, str | None]]] = {
    "limit of 5,000 digits": (request("/jobs?limit=" + "9" * 5000), OPTION),
    "limit of 5,000 zeros": (request("/jobs?limit=" + "0" * 5000 + "1"), OPTION),
    "limit of odd digits": (request("/jobs?limit=%C2%B2"), OPTION),
    "cursor nested": (request("/jobs?cursor=" + b64(b"[" * 8000)), OPTION),
    "cursor nested behind its end": (request("/jobs?cursor=" + b64(b'["2026-11-25T12:00:00Z","x",' + b"[" * 8000)), OPTION),
    "cursor of no UTF-8": (request("/jobs?cursor=" + b64(b'["2026-11-25T12:00:00Z","\xff"]')), OPTION),
    "cursor of the first day": (request("/jobs?cursor=" + b64(b'["0001-01-01T00:00:00+23:59","x"]')), OK),
    "cursor of NUL": (request("/jobs?cursor=%00"), OPTION),
    "created before all days": (request("/jobs?created_after=0001-01-01T00:00:00%2B23:59"), OK),
    "created after all days": (request("/jobs?created_after=9999-12-31T23:59:59-23:59"), OK),
    "created at no number": (request("/jobs?created_after=1e400"), OPTION),
    "a filter of no UTF-8": (request("/jobs?%ff=1"), OPTION),
    "1,500 filters": (request("/jobs?" + "&".join(f"a{n}=1" for n in range(1500))), OPTION),
    "percent garbage": (request("/jobs?limit=%&cursor=%zz"), OPTION),
    "raw bytes in the query": (request(b"/jobs?limit=\xff"), INVALID),
    "raw bytes in the path": (request(b"/jobs/\xff"), INVALID),
    "path of no UTF-8": (request("/jobs/%ff"), ABSENT),
    "path of half a character": (request("/jobs/%ed%a0%80/stream"), ABSENT),
    "path of NUL": (request("/jobs/%00"), ABSENT),
    "path of a line break": (request("/jobs/abc%0A/stream"), ABSENT),
    "path of percent garbage": (request("/jobs/%zz%"), ABSENT),
    "path that climbs": (request("/docs/..%2f..%2fapp.py"), ABSENT),
    "path of 9,000": (request("/jobs/" + "a" * 9000), ABSENT),
    "path of 5,000 of an asset": (request("/docs/" + "a" * 5000), ABSENT),
    "path of 70,000": (request("/jobs/" + "a" * 70_000), (431, "invalid_request")),
    "target of no path": (request("?limit=1"), ABSENT),
    "target of no slash": (request("jobs"), ABSENT),
    "target of a URL": (request("http://evil/jobs?limit=0"), OPTION),
    "target of a URL without a path": (request("http://evil"), ABSENT),
    "target of an authority": (request("evil:80", "CONNECT"), ABSENT),
    "target of half a URL": (request("http://[::1/jobs"), ABSENT),
    "target of a star": (request("*", "OPTIONS"), ABSENT),
    "host of dots": (b"GET /jobs HTTP/1.1\r\nHost: ..\r\nConnection: close\r\n\r\n", INVALID),
    "host of 300": (b"GET /jobs HTTP/1.1\r\nHost: " + b"a" * 300 + b"\r\nConnection: close\r\n\r\n", INVALID),
    "host of none": (b"GET /jobs HTTP/1.1\r\nConnection: close\r\n\r\n", INVALID),
    "two hosts": (with_header(b"Host", b"y"), INVALID),
    "HTTP/1.0": (b"GET /jobs HTTP/1.0\r\n\r\n", OK),
    "HTTP/0.9": (b"GET /jobs\r\n\r\n", INVALID),
    "HTTP/2": (b"PRI * HTTP/2.0\r\nConnection: close\r\n\r\nSM\r\n\r\n", INVALID),
    "an offer of HTTP/2": (request("/jobs", headers=[(b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"x")]), OK),
    "half a WebSocket": (with_header(b"Upgrade", b"websocket"), OK),
    "TLS": (b"\x16\x03\x01\x00\xa5\x01\x00\x00" + b"\x00" * 100 + b"\r\n\r\n", INVALID),
    "method of one's own": (request("/jobs", "BREW"), METHOD),
    "CONNECT": (request("/jobs", "CONNECT"), METHOD),
    "Last-Event-ID of odd digits": (with_header(b"Last-Event-ID", "²".encode(), "/jobs/x/stream"), ABSENT),
    "Last-Event-ID of 5,000 digits": (with_header(b"Last-Event-ID", b"9" * 5000, "/jobs/x/stream"), ABSENT),
    "cookies": (with_header(b"Cookie", b"\xff=\xfe; a=b;;;="), OK),
    "authorization": (with_header(b"Authorization", b"Digest \xff=,,"), OK),
    "ranges": (with_header(b"Range", b"bytes=9-1,x", "/docs/start.js"), OK),
    "dates": (with_header(b"If-Modified-Since", b"Mon, 99 Foo 99999", "/docs/swagger-ui.css"), OK),
    "500 headers": (request("/jobs", headers=[(b"X-%d" % n, b"v") for n in range(500)]), OK),
    "a header of 200 KB": (with_header(b"X", b"v" * 200_000), (431, "invalid_request")),
    "a header with NUL": (with_header(b"X", b"a\x00b"), INVALID),
    "a header without a name": (with_header(b"", b"v"), INVALID),
    "length of letters": (request("/jobs", "POST", [(b"Content-Length", b"x")]), INVALID),
    "length below 0": (request("/jobs", "POST", [(b"Content-Length", b"-1")]), INVALID),
    "two lengths": (request("/jobs", "POST", [(b"Content-Length", b"1"), (b"Content-Length", b"2")], b"xx"), INVALID),
    "length of 4,000 digits": (request("/jobs", "POST", [(b"Content-Length", b"9" * 4000)]), INVALID),
    "length of 20 digits": (request("/jobs", "POST", [(b"Content-Length", b"9" * 20)]), MEDIA),
    "an unknown transfer": (request("/jobs", "POST", [(b"Transfer-Encoding", b"gzip, chunked")], b"0\r\n\r\n"), INVALID),
    "a bad chunk": (request("/jobs", "POST", [(b"Transfer-Encoding", b"chunked"), (b"Content-Type", FORM)], b"zz\r\n\r\n"), INVALID),
    "a chunk of 40 digits": (request("/jobs", "POST", [(b"Transfer-Encoding", b"chunked"), (b"Content-Type", FORM)], b"f" * 40 + b"\r\n\r\n"), INVALID),
    "a form that is cut": (request("/jobs", "POST", [(b"Transfer-Encoding", b"chunked"), (b"Content-Type", FORM)], b"5\r\n--xyz\r\n0\r\n\r\n"), EARLY),
    "a form of nothing": (request("/jobs", "POST", [(b"Content-Length", b"0"), (b"Content-Type", FORM)]), EARLY),
    "boundary of a euro": (kind(b"multipart/form-data; boundary*=UTF-8''%E2%82%AC"), MEDIA),
    "boundary of a line break": (kind(b"multipart/form-data; boundary*=UTF-8''%0d%0a"), MEDIA),
    "boundary in pieces": (kind(b"multipart/form-data; boundary*0*=UTF-8''%ff; boundary*1=x"), MEDIA),
    "boundary of bytes": (kind(b"multipart/form-data; boundary=\xff\xfe"), MEDIA),
    "boundary of nothing": (kind(b'multipart/form-data; boundary=""'), MEDIA),
    "boundary of 10,000": (kind(b"multipart/form-data; boundary=" + b"a" * 10_000), MEDIA),
    "no boundary": (kind(b"multipart/form-data"), MEDIA),
    "boundary of nobody's charset": (kind(b"multipart/form-data; boundary*=a%00b''xyz"), TAKEN),
    "a charset": (kind(FORM + b"; charset=utf-7"), TAKEN),
    "a type of bytes": (kind(b"\xff/\xff; x"), MEDIA),
    "a type of 10,000": (kind(FORM + b"; a=b" * 2000), TAKEN),
    "a part without a name": (field(b"Content-Disposition: form-data"), OPTION),
    "a part without a disposition": (field(b"X: y"), INVALID),
    "a part that is attached": (field(b'Content-Disposition: attachment; name="vad"'), INVALID),
    "a name of no UTF-8": (field(b'Content-Disposition: form-data; name="\xff\xfe"'), OPTION),
    "a name of NUL": (field(b'Content-Disposition: form-data; name="a\x00b"'), OPTION),
    "a name of 10,000": (field(b'Content-Disposition: form-data; name="' + b"a" * 10_000 + b'"'), INVALID),
    "a name without an end": (field(b'Content-Disposition: form-data; name="a'), OPTION),
    "two names": (field(b'Content-Disposition: form-data; name="a"; name="b"'), OPTION),
    "a part of nobody's charset": (field(b'Content-Disposition: form-data; name="prompt"\r\nContent-Type: text/plain; charset=nonesuch'), TAKEN),
    "a part with a header of 20,000": (field(b'Content-Disposition: form-data; name="prompt"\r\nX: ' + b"a" * 20_000), INVALID),
    "a part with 2,000 headers": (field(b'Content-Disposition: form-data; name="prompt"' + b"\r\nX: y" * 2000), INVALID),
    "a part with no length": (field(b'Content-Disposition: form-data; name="prompt"\r\nContent-Length: x'), INVALID),
    "200 parts": (form(*[(b'Content-Disposition: form-data; name="x%d"' % n, b"v") for n in range(200)], AUDIO), INVALID),
    "a file's name of no UTF-8": (named(b'filename="\xff\xfe"'), TAKEN),
    "a file's name of NUL": (named(b'filename="a\x00\x01\x1b"'), TAKEN),
    "a file's name of 5,000": (named(b'filename="' + b"a" * 5000 + b'"'), INVALID),
    "a file's name that climbs": (named(b'filename="../../etc/passwd"'), TAKEN),
    "a file's name in two ways": (named(b"filename=a; filename*=UTF-8''%ff%fe"), TAKEN),
    "a value of no UTF-8": (prompt(b"\xff"), INVALID),
    "a value of half a character": (prompt(b"\xed\xa0\x80"), INVALID),
    "a value of 70,000": (prompt(b"a" * 70_000), INVALID),
    "a value of 60,000": (prompt(b"a" * 60_000), OPTION),
    "a number that is none": (field(b'Content-Disposition: form-data; name="temperature"', b"nan"), OPTION),
    "a number of 5,000 digits": (field(b'Content-Disposition: form-data; name="beam_size"', b"9" * 5000), OPTION),
    "a URL of half an address": (field(b'Content-Disposition: form-data; name="webhook_url"', b"http://[::1/"), OPTION),
    "a URL of odd digits": (field(b'Content-Disposition: form-data; name="webhook_url"', "http://x:²/".encode()), OPTION),
    "Prefer of bytes": (posted(b"Prefer", b'\xff;;=,,respond-async="'), TAKEN),
    "Prefer of 5,000 digits": (posted(b"Prefer", b"wait=" + b"9" * 5000), TAKEN),
    "a key of bytes": (posted(b"Idempotency-Key", b"\xff\xfe\x80"), INVALID),
    "a key of umlauts": (posted(b"Idempotency-Key", "schlüssel".encode()), INVALID),
    "a key of nothing": (posted(b"Idempotency-Key", b""), INVALID),
    "a raw body": (raw(), TAKEN),
    "a raw body of nothing": (raw(body=b""), (422, "missing_audio")),
    "a raw body of a type in capitals": (raw(b"AUDIO/MPEG"), TAKEN),
    "a raw body of no type": (request("/jobs", "POST", [(b"Content-Length", b"1")], b"x"), MEDIA),
    "a raw body of curl's type": (raw(b"application/x-www-form-urlencoded"), MEDIA),
    "a raw body of gzip": (raw(more=[(b"Content-Encoding", b"gzip")]), MEDIA),
    "a raw body of two codings": (raw(more=[(b"Content-Encoding", b"identity"), (b"Content-Encoding", b"br")]), MEDIA),
    "a raw body of no coding": (raw(more=[(b"Content-Encoding", b"Identity")]), TAKEN),
    "a form of gzip": (posted(b"Content-Encoding", b"gzip"), MEDIA),
    "a raw body with a name of bytes": (raw(more=[(b"Content-Disposition", b"\xff;filename*=\xff''%ff;=;\"")]), TAKEN),
    "a raw body with a disposition of 60,000": (raw(more=[(b"Content-Disposition", b';a="' * 15_000)]), TAKEN),
    "a raw body with options": (raw(target="/jobs?language=de&filename=a"), TAKEN),
    "an unknown option in the query": (raw(target="/jobs?sparkle=1"), OPTION),
    "an unknown option in the query of a form": (form(AUDIO, target="/jobs?sparkle=1"), OPTION),
    "an option of the form in the query as well": (form((LANGUAGE, b"en"), AUDIO, target="/jobs?language=de"), OPTION),
    "an option behind the file in the query as well": (form(AUDIO, (LANGUAGE, b"en"), target="/jobs?language=de"), OPTION),
    "the same option in the form and the query": (form((LANGUAGE, b"de"), AUDIO, target="/jobs?language=de"), TAKEN),
    "an option of no UTF-8 in the query": (raw(target="/jobs?prompt=%ff"), INVALID),
    "1,500 options in the query": (raw(target="/jobs?" + "&".join(f"a{n}=1" for n in range(1500))), INVALID),
    "a key of 10,000": (posted(b"Idempotency-Key", b"k" * 10_000), INVALID),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_it_is_answered(gateway: Gateway, name: str) -> None:
    sent, expected = REQUESTS[name]
    assert check(ask(gateway, sent)) == expected


def test_who_asks_with_the_wrong_method_is_told_the_right_ones(gateway: Gateway) -> None:
    _, headers, _ = ask(gateway, request("/jobs", "PUT"))
    assert headers[b"allow"] == b"get, head, options, post"


def test_an_offer_to_upgrade_leaves_the_connection_as_it_is(gateway: Gateway) -> None:
    offer = (
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    status, _, rest = ask(gateway, offer + request("/nothing"))
    assert status == 200
    assert b"HTTP/1.1 404" in rest


def test_a_coded_body_is_told_to_come_without_a_coding(gateway: Gateway) -> None:
    _, headers, body = ask(gateway, raw(more=[(b"Content-Encoding", b"gzip")]))
    assert headers[b"accept-encoding"] == b"identity"
    assert b"gzip" in body


@pytest.mark.parametrize("kind", [b"audio/mpeg", FORM])
@pytest.mark.parametrize("length", [(b"Content-Length", b"100"), (b"Transfer-Encoding", b"chunked")])
def test_an_upload_that_is_cut_is_told_so(gateway: Gateway, kind: bytes, length: tuple[bytes, bytes]) -> None:
    """The client has promised more, writes no more, and still listens."""
    begun = b'--xyz\r\nContent-Disposition: form-data; name="audio"; filename="a.mp3"\r\n\r\nabc'
    body = begun if length[0] == b"Content-Length" else b"%x\r\n%s\r\n" % (len(begun), begun)
    sent = request("/jobs", "POST", [(b"Content-Type", kind), length], body)
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as client:
        client.settimeout(PATIENCE_SECS)
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "upload_incomplete"


line = st.binary(max_size=40).filter(lambda value: b"\r" not in value and b"\n" not in value)
"""What may stand in a header or a target without ending it."""
percent = st.binary(max_size=8).map(lambda value: "".join(f"%{byte:02x}" for byte in value).encode())
word = st.sampled_from(
    [
        b"jobs",
        b"stream",
        b"model",
        b"events",
        b"status",
        b"webhooks",
        b"docs",
        b"health",
        b"..",
        b"",
        b"%",
        b"%2f",
        b"*",
    ]
)
target = st.builds(
    lambda parts, query: b"/" + b"/".join(parts) + b"?" + query,
    st.lists(st.one_of(word, percent, line), max_size=4),
    st.one_of(
        line,
        st.builds(
            lambda k, v: k + b"=" + v, st.sampled_from([b"limit", b"cursor", b"status", b"erase"]), percent
        ),
    ),
)
names = st.sampled_from(
    [
        b"Content-Type",
        b"Last-Event-ID",
        b"Prefer",
        b"Idempotency-Key",
        b"Accept",
        b"Cookie",
        b"Expect",
        b"Range",
        b"X-Y",
    ]
)
headers = st.lists(st.tuples(names, line), max_size=3)
part = st.builds(
    lambda name, value, extra, data: (b"Content-Disposition: form-data; name=" + name + b"; filename=" + value + extra, data),
    st.one_of(st.sampled_from([b"audio", b"prompt", b"vad", b"language", b'"audio"']), line),
    line,
    st.one_of(st.just(b""), line.map(lambda value: b"\r\n" + value)),
    st.binary(max_size=50),
)  # fmt: skip
MANY = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)  # fmt: skip


@MANY
@given(st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS"]), target, headers)
@example("GET", b"//jobs?", [])
@example("POST", b"/model/load?worker_id=", [])
def test_any_request_is_answered(gateway: Gateway, method: str, target: bytes, headers: Headers) -> None:
    if b"events" in target or b"worker_id" in target:  # one has no end, the other is asked of a worker
        return
    status, found, body = ask(gateway, request(target, method, headers))
    if method != "HEAD":
        check((status, found, body))
    assert status < 500


@MANY
@given(st.one_of(line, line.map(lambda value: FORM + b"; " + value)), st.lists(part, max_size=3), headers)
def test_any_form_is_answered(
    gateway: Gateway, kind: bytes, parts: list[tuple[bytes, bytes]], headers: Headers
) -> None:
    check(ask(gateway, form(*parts, AUDIO, kind=kind, headers=headers)))


@MANY
@given(headers, st.binary(max_size=60))
def test_any_raw_body_is_answered(gateway: Gateway, headers: Headers, body: bytes) -> None:
    check(ask(gateway, raw(body=body, more=headers)))


@MANY
@given(st.binary(max_size=300))
def test_what_is_no_http_is_answered(gateway: Gateway, sent: bytes) -> None:
    check(ask(gateway, sent + b"\r\n\r\n\r\n"))
