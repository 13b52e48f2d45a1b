"""The streamed multipart form: any cutting of the same bytes gives the same form."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upload.multipart_form import MAX_FIELD_BYTES, Upload, receive
from schemas.errors import ErrorCode, RequestError

TYPE = "multipart/form-data; boundary=xyz"


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    return b'--xyz\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (
        name.encode(),
        file.encode(),
        value,
    )


async def run(
    form: bytes, piece: int = 1000, content_type: str = TYPE
) -> tuple[Upload, bytes, dict[str, str]]:
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
    assert upload == Upload(fields={"language": "de", "task": "translate"}, filename="a b.wav")
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
    "content_type", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=x"]
)
async def test_other_content_types(content_type: str) -> None:
    with pytest.raises(RequestError) as caught:
        await run(b"", content_type=content_type)
    assert caught.value.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE
