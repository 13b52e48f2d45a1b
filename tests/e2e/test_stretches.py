"""What a job of several stretches carries from one to the next, and where its words are: a real worker, and an engine that
notes what it is told."""

import io
import wave

import pytest

from gpu_worker.pcm import SAMPLE_RATE
from tests.support.http import AUDIO, finish, submit
from tests.support.system import Gateway, System


def test_stretches_follow_each_other(system: System) -> None:
    script = system.script()
    system.scripted_worker(script, STRETCH_SECS="30")
    gateway = system.gateway()
    fields = {"words": "true", "prompt": "Digits:", "language": "en"}
    job = finish(gateway.http, submit(gateway.http, "long.ogg", (AUDIO / "long.ogg").read_bytes(), **fields))
    orders = script.orders()
    assert len(orders) >= 2
    assert [len(order.said) for order in orders] == list(range(len(orders)))
    for order in orders:
        assert order.options.prompt == "Digits:"
        assert all(segment.text.startswith(" all of it") for segment in order.said)
    for order, segment in zip(orders, job["segments"], strict=True):
        begin, end = (sample / SAMPLE_RATE for sample in (order.spans[0][0], order.spans[-1][1]))
        first, last = segment["words"][0], segment["words"][-1]
        # What is kept around speech is no part of the segment.
        assert begin <= segment["start"] <= first["start"] < begin + 0.8
        assert end >= segment["end"] >= last["end"] > end - 0.8
        assert "".join(word["text"] for word in segment["words"]) == segment["text"]
    assert job["segments"][1]["words"][0]["start"] > 10  # of the file, not of the stretch


@pytest.mark.parametrize("samples", [1, 7, 8, 160])
@pytest.mark.parametrize("vad", ["true", "false"])
def test_audio_of_no_length_is_done_without_a_word(
    shared: tuple[System, Gateway], samples: int, vad: str
) -> None:
    """Seven samples are 0 ms in the record, so nothing may divide by what the record says."""
    _, gateway = shared
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        wav.writeframes(b"\x10\x20" * samples)
    job = finish(gateway.http, submit(gateway.http, "short.wav", file.getvalue(), vad=vad))
    assert (job["status"], job["segments"]) == ("done", [])
    assert job["duration_secs"] == round(samples / SAMPLE_RATE, 3)
