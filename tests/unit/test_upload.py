"""The streamed multipart form: any cutting of the same bytes gives the same form."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upload.kind import check_body
from gateway.upload.multipart_form import MAX_FIELD_BYTES, Form, receive
from gateway.upload.query import options_of, together
from gateway.upload.receiving import Incoming, Upload
from gateway.upload.receiving import receive as receive_upload
from schemas.errors import ErrorCode, RequestError

TYPE = "multipart/form-data; boundary=xyz"


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    return b'--xyz\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (
        name.encode(),
        file.encode(),
        value,
    )


async def run(form: bytes, piece: int = 1000, content_type: str = TYPE) -> tuple[Form, bytes, dict[str, str]]:
    audio, early = bytearray(), {}

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(form), piece):
            yield form[start : start + piece]

    async def sink(fields: dict[str, str], _filename: str | None, data: AsyncIterator[bytes]) -> None:
        early.update(fields)
        async for chunk in data:
            audio.extend(chunk)

    upload = await receive(body(), content_type, sink)
    return upload, bytes(audio), early


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=3000), piece=st.integers(1, 700))
async def test_any_cutting(data: bytes, piece: int) -> None:
    form = (
        part("language", b"de") + part("audio", data, "a b.wav") + part("task", b"translate") + b"--xyz--\r\n"
    )
    upload, audio, early = await run(form, piece)
    assert audio == data
    assert upload == Form(fields={"language": "de", "task": "translate"}, filename="a b.wav")
    assert early == {"language": "de"}


@pytest.mark.parametrize(
    ("form", "code", "field"),
    [
        (part("language", b"de") + b"--xyz--\r\n", ErrorCode.MISSING_AUDIO, "audio"),
        (b"--xyz--\r\n", ErrorCode.MISSING_AUDIO, "audio"),
        (part("audio", b"text") + b"--xyz--\r\n", ErrorCode.MISSING_AUDIO, "audio"),
        (
            part("audio", b"1", "a") + part("audio", b"2", "b") + b"--xyz--\r\n",
            ErrorCode.INVALID_REQUEST,
            "audio",
        ),
        (part("file", b"1", "a") + b"--xyz--\r\n", ErrorCode.INVALID_REQUEST, "file"),
        (part("prompt", b"\xff") + b"--xyz--\r\n", ErrorCode.INVALID_REQUEST, "prompt"),
        (part("a", b"x" * (MAX_FIELD_BYTES + 1)) + b"--xyz--\r\n", ErrorCode.INVALID_REQUEST, "a"),
        (part("audio", b"1" * 5000, "a"), ErrorCode.UPLOAD_INCOMPLETE, None),
        (b"", ErrorCode.UPLOAD_INCOMPLETE, None),
    ],
)
async def test_bad_forms(form: bytes, code: ErrorCode, field: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        await run(form)
    assert (caught.value.code, caught.value.field) == (code, field)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=x",
        "application/x-www-form-urlencoded",
        "text/plain",
        "audio",
        "xaudio/mpeg",
    ],
)
def test_types_that_are_not_taken(content_type: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_body(content_type, "")
    assert caught.value.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE
    assert "multipart/form-data" in caught.value.detail or "boundary" in caught.value.detail


@pytest.mark.parametrize(
    "content_type",
    [
        "Multipart/Form-Data; BOUNDARY=x",
        'MULTIPART/FORM-DATA ; charset=utf-8;boundary="a b"',
        "audio/mpeg",
        "AUDIO/MPEG",
        "audio/*",
        "Video/MP4; codecs=avc1",
        "application/octet-stream",
        "application/ogg",
    ],
)
def test_types_that_are_taken(content_type: str) -> None:
    check_body(content_type, "identity")


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "identity, br", "deflate", "x-unknown", "aws-chunked"])
def test_a_coded_body_is_refused(coding: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_body("audio/mpeg", coding)
    assert (caught.value.code, caught.value.field) == (
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        "Content-Encoding",
    )


@pytest.mark.parametrize(
    ("said", "filename"),
    [
        (b"filename*=UTF-8''%E2%82%AC.mp3", "€.mp3"),
        (b"filename*=utf-8'de'%e2%82%ac.mp3", "€.mp3"),
        (b"FileName*=ISO-8859-1''caf%E9.mp3", "café.mp3"),
        (b"filename=\"old.mp3\"; filename*=UTF-8''%E2%82%AC.mp3", "€.mp3"),
        (b"filename*=UTF-8''%E2%82%AC.mp3; filename=\"old.mp3\"", "€.mp3"),
        (b"filename*=\"UTF-8''%E2%82%AC.mp3\"", "€.mp3"),
        (b"filename=\"old.mp3\"; filename*=UTF-8''%FF%FE", "old.mp3"),
        (b"filename=old.mp3; filename*=nonesuch''a", "old.mp3"),
        (b"filename*=UTF-8''%FF%FE", None),
        (b"filename*=", None),
        (b"filename*=a.mp3", None),
        (b"filename*0*=UTF-8''a; filename*1=b", None),
        (b'filename="caf\xe9.mp3"', "café.mp3"),
        (b"filename=caf\xe9 2.mp3", "café 2.mp3"),
        (b'filename="caf\xc3\xa9.mp3"', "café.mp3"),
        (b'filename="\xff\xfe"', "ÿþ"),
        (b'filename="a;b.mp3"', "a;b.mp3"),
        (rb'filename="say \"hi\".mp3"', 'say "hi".mp3'),
        (b'filename="say %22hi%22.mp3"', 'say "hi".mp3'),
        (rb'filename="C:\x\y.mp3"', "y.mp3"),
        (b'filename=""', None),
    ],
)
async def test_names_of_files(said: bytes, filename: str | None) -> None:
    head = b'--xyz\r\nContent-Disposition: form-data; name="audio"; ' + said
    form, audio, _ = await run(head + b"\r\n\r\nx\r\n--xyz--\r\n")
    assert (form.filename, audio) == (filename, b"x")


@pytest.mark.parametrize(
    ("headers", "is_audio"),
    [
        (b"Content-Disposition: form-data\r\nContent-Type: audio/mpeg", True),
        (b'Content-Disposition: form-data; name=""\r\nContent-Type: Audio/MPEG; q=1', True),
        (b"Content-Type: audio/mpeg", True),
        (b'Content-Disposition: attachment; filename="a.mp3"\r\nContent-Type: audio/mpeg', True),
        (b'Content-Disposition: form-data; filename="a"\r\nContent-Type: video/mp4', True),
        (b'Content-Disposition: form-data; filename="a"\r\nContent-Type: application/octet-stream', True),
        (b'Content-Disposition: form-data; name="audio"\r\nContent-Type: audio/wav', True),
        (b"Content-Disposition: form-data; name*=UTF-8''audio; filename=a", True),
        (b'Content-Disposition: form-data; name="prompt"\r\nContent-Type: audio/wav', False),
        (b'Content-Disposition: form-data; name="audio"\r\nContent-Type: text/plain', False),
        (b"Content-Disposition: form-data\r\nContent-Type: application/octet-stream", False),
        (b"Content-Disposition: form-data; filename=a", False),
        (b"Content-Type: application/octet-stream", False),
    ],
)
async def test_what_is_the_audio_of_a_form(headers: bytes, is_audio: bool) -> None:
    form = b"--xyz\r\n" + headers + b"\r\n\r\nx\r\n--xyz--\r\n"
    if is_audio:
        assert (await run(form))[1] == b"x"
        return
    with pytest.raises(RequestError):
        await run(form)


def test_a_query_has_the_options_of_a_form() -> None:
    assert options_of(b"") == {}
    assert options_of(b"language=de&prompt=caf%C3%A9+x&vad=&filename=a.mp3") == {
        "language": "de",
        "prompt": "café x",
        "filename": "a.mp3",
    }


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        (b"sparkle=1", ErrorCode.INVALID_OPTION, "sparkle"),
        (b"sparkle=", ErrorCode.INVALID_OPTION, "sparkle"),
        (b"sparkle", ErrorCode.INVALID_OPTION, "sparkle"),
        (b"Language=de", ErrorCode.INVALID_OPTION, "Language"),
        (b"language=xx", ErrorCode.INVALID_OPTION, "language"),
        (b"language=de&language=de", ErrorCode.INVALID_OPTION, "language"),
        (b"vad=&vad=true", ErrorCode.INVALID_OPTION, "vad"),
        (b"webhook_url=ftp://x", ErrorCode.INVALID_OPTION, "webhook_url"),
        (b"filename=" + b"a" * 1025, ErrorCode.INVALID_OPTION, "filename"),
        (b"prompt=%ff", ErrorCode.INVALID_REQUEST, None),
        (b"&".join(b"a%d=1" % n for n in range(101)), ErrorCode.INVALID_REQUEST, None),
    ],
)
def test_bad_queries(query: bytes, code: ErrorCode, field: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        options_of(query)
    assert (caught.value.code, caught.value.field) == (code, field)


def test_query_and_body_together() -> None:
    assert together({"language": "de"}, {"task": "translate"}, "a") == (
        {"language": "de", "task": "translate"},
        "a",
    )
    assert together({"language": ""}, {"language": "de"}) == ({"language": "de"}, None)
    assert together({"language": "de"}, {"language": "de", "filename": "a"}, "a")[1] == "a"
    for name, fields, query, filename in (
        ("language", {"language": "en"}, {"language": "de"}, None),
        ("filename", {}, {"filename": "b"}, "a"),
    ):
        with pytest.raises(RequestError) as caught:
            together(fields, query, filename)
        assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID_OPTION, name)


async def received(*pieces: bytes, stalls: bool = False) -> tuple[Upload, bytes]:
    audio = bytearray()

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        if stalls:
            raise TimeoutError

    async def sink(_fields: dict[str, str], _filename: str | None, data: AsyncIterator[bytes]) -> None:
        async for chunk in data:
            audio.extend(chunk)

    incoming = Incoming(
        content_type="audio/mpeg",
        content_length=None,
        body=body(),
        query={"language": "de"},
        disposition="attachment; filename*=UTF-8''%E2%82%AC",
    )
    return await receive_upload(incoming, sink), bytes(audio)


async def test_a_body_that_is_the_audio() -> None:
    upload, audio = await received(b"", b"ab", b"", b"c")
    assert audio == b"abc"
    assert upload == Upload(fields={"language": "de"}, filename="€")


async def test_a_body_of_nothing_and_one_that_stalls() -> None:
    for pieces, stalls, code in (
        ((), False, ErrorCode.MISSING_AUDIO),
        ((b"",), False, ErrorCode.MISSING_AUDIO),
        ((b"a",), True, ErrorCode.UPLOAD_INCOMPLETE),
        ((), True, ErrorCode.UPLOAD_INCOMPLETE),
    ):
        with pytest.raises(RequestError) as caught:
            await received(*pieces, stalls=stalls)
        assert caught.value.code is code
