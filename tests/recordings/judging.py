"""Whether a job says of a recording what it must. Pure."""

from difflib import SequenceMatcher
from typing import Any

from tests.recordings.recording import Recording

TOLERANCE_SECS = 0.35
"""Of the start of a phrase. Lossy codecs add padding, and whisper's times are rounded."""


def complaints(recording: Recording, job: dict[str, Any]) -> list[str]:
    """Return what is wrong with a job that has ended."""
    if recording.error is not None:
        return _of_error(recording, job)
    if job["status"] != "done":
        return [f"{job['status']}: {job['error']}"]
    found = [(s["start"], s["text"].strip()) for s in job["segments"]]
    expected, wrong = recording.expected(), list[str]()
    heard, said = ([word for _, text in part for word in text.split()] for part in (found, expected))
    if not is_right(heard, said, recording.accuracy):
        wrong.append(f"heard {found}")
    elif len(found) == len(expected) and recording.phrases == tuple(sorted(recording.phrases)):
        wrong += [
            f"{text!r} at {start}, not {at:.2f}"
            for (start, text), (at, _) in zip(found, expected, strict=True)
            if abs(start - at) > TOLERANCE_SECS
        ]
    codes = [warning["code"] for warning in job["warnings"]]
    if missing := set(recording.warnings) - set(codes):
        wrong.append(f"no warning {sorted(missing)}, only {codes}")
    if others := set(codes) - set(recording.warnings) - set(recording.may_warn):
        wrong.append(f"warns {sorted(others)}")
    if job["source"]["track"] != recording.track:
        wrong.append(f"track {job['source']['track']}")
    if recording.seconds is not None and abs(job["duration_secs"] - recording.seconds) > TOLERANCE_SECS:
        wrong.append(f"{job['duration_secs']} s long")
    channels = tuple(s.get("channel") for s in job["segments"])
    if recording.channels and channels != recording.channels:
        wrong.append(f"channels {channels}")
    return wrong


def is_right(heard: list[str], said: list[str], accuracy: float) -> bool:
    """Whether this share of the words is right, in their order."""
    if accuracy == 1:
        return heard == said
    same = sum(block.size for block in SequenceMatcher(a=heard, b=said, autojunk=False).get_matching_blocks())
    return same >= accuracy * max(len(heard), len(said)) or accuracy == 0


def _of_error(recording: Recording, job: dict[str, Any]) -> list[str]:
    error = job["error"] or {"code": job["status"], "message": ""}
    wrong = []
    if error["code"] != recording.error:
        wrong.append(f"{error['code']}: {error['message']}")
    message = error["message"]
    if recording.says not in message or not message.endswith(".") or "/" in message:
        wrong.append(f"says {message!r}")
    return wrong
