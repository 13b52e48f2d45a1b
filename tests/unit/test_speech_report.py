"""What a measurement of speech says: what is wrong with the product, and the tables; and what other programs' JSON means."""

import json
from pathlib import Path

import msgspec

from tests.speech import peer, product
from tests.speech.clips import of_model, short
from tests.speech.measures import Heard, Said
from tests.speech.report import complaints, document
from tests.speech.values import CLI, CLI_VAD, Clip, Measured

SAID = "ask not what your country can do for you"
CLIP = Clip(path=Path("jfk.flac"), name="jfk.flac", language="en", text=SAID)


def heard(text: str, start: float = 0.0, end: float = 3.0, word: Said | None = None) -> Heard:
    words = (word,) if word else ()
    return Heard(language="en", segments=(Said(start, end, text),) if text else (), words=words, secs=1)


def measured(*runs: Heard, clip: Clip = CLIP, peers: dict[str, Heard] | None = None) -> Measured:
    """Without a peer, whisper-cli has heard every word."""
    return Measured(
        model="tiny.en",
        clip=clip,
        audio_secs=4,
        runs=runs,
        peers=peers or {CLI: heard(SAID)},
        languages={},
    )


def test_nothing_is_wrong_with_a_right_transcript() -> None:
    assert complaints([measured(heard(SAID), heard(SAID))]) == []


def test_runs_must_be_the_same() -> None:
    [wrong] = complaints([measured(heard(SAID), heard(SAID, end=2.9))])
    assert wrong == "jfk.flac with tiny.en: 3 runs are not the same: times differ."


def test_nothing_is_heard_where_nothing_is_said() -> None:
    music = Clip(path=Path("m"), name="music", language=None, text="")
    [wrong] = complaints([measured(heard(" Thank you."), clip=music)])
    assert "nothing is said" in wrong
    assert complaints([measured(heard(" (upbeat music)"), clip=music)]) == []


def test_times_must_be_near_speech() -> None:
    clip = msgspec.structs.replace(CLIP, speech=((0.0, 3.0), (60.0, 63.0)))
    [times, words] = complaints([measured(heard(SAID, end=30, word=Said(3, 30, " ask")), clip=clip)])
    assert "1 times of segments are up to 27.0 s from any speech" in times
    assert "1 words last too long, 1 are not in speech" in words


def test_the_product_may_be_a_little_worse_than_the_better_run_of_whisper_cli() -> None:
    two, three = "ask not what your country can do", "ask not what your country can"
    assert complaints([measured(heard(two), peers={CLI: heard(""), CLI_VAD: heard(SAID)})]) == []
    [wrong] = complaints([measured(heard(three), peers={CLI: heard(""), CLI_VAD: heard(SAID)})])
    assert wrong == "tiny.en: 3 words are wrong, 0 where whisper-cli is at its best."


def test_the_document_has_a_row_for_each_recording_and_system() -> None:
    clip = msgspec.structs.replace(CLIP, speech=((0.0, 3.0),))
    unknown = Clip(path=Path("j"), name="ja.flac", language="ja", text=None)
    text = document([measured(heard(SAID), clip=clip), measured(heard("こ"), clip=unknown)])
    assert "| tiny.en | product | 1 | 0 | 9 | 0.0% | 0.25 | 2 of 2 |" in text
    assert "| jfk.flac | 4.0 | en |  | WER | 0.0% | 0.0% |  | 0.0% | 0.25 / 0.25 | alike |" in text
    assert "| ja.flac | 4.0 | ja |  | CER | no reference | no reference |" in text
    assert "| jfk.flac | whisper-cli | 1 | 1 | 0 | 0.00, 0.00 | 0.00, 0.00 |" in text
    assert text.endswith("## What is wrong\n\nNothing.\n")


def test_the_json_of_whisper_cli_is_in_milliseconds() -> None:
    segment = {"offsets": {"from": 1500, "to": 2750}, "text": " Hello."}
    answer = json.dumps({"result": {"language": "en"}, "transcription": [segment]})
    assert peer.heard(answer, 2.0) == Heard("en", (Said(1.5, 2.75, " Hello."),), (), 2.0)


def test_work_on_the_audio_is_what_counts_of_a_job() -> None:
    word = {"start": 1, "end": 2, "text": " a", "probability": 1}
    segment = {"start": 1, "end": 3, "text": " a", "words": [word]}
    timings = {"queue": 8, "decode": 1, "plan": 2, "load": 16, "engine": 4}
    job = {"language": "en", "segments": [segment], "timings": timings}
    assert product.heard(job) == Heard("en", (Said(1, 3, " a"),), (Said(1, 2, " a"),), 7)


def test_an_english_model_gets_english_and_recordings_without_speech() -> None:
    clips = [
        msgspec.structs.replace(CLIP, name=str(n), language=code) for n, code in enumerate(("en", "fr", None))
    ]
    assert [clip.name for clip in of_model(clips, "tiny.en")] == ["0", "2"]
    assert [clip.asked("tiny.en") for clip in clips] == ["en", "fr", "en"]
    assert clips[2].asked("base") == "auto"
    assert len(short([*clips * 7])) == 5
