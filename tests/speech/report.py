"""What was measured, as a document, and what is wrong with it, as sentences. Pure."""

from collections.abc import Sequence

from tests.speech.measures import (
    OFF_SECS,
    Errors,
    Heard,
    Times,
    agreement,
    errors,
    measure,
    middle_and_worst,
    same,
    times,
)
from tests.speech.values import BEAM_SIZE, CLI, CLI_VAD, PRODUCT, RUNS, Measured

SYSTEMS = (PRODUCT, CLI, CLI_VAD)
WORSE_RATE, WORSE_WORDS = 0.02, 2
"""By how much the product may be worse than whisper-cli: this share of the words, or this many of them."""
HEAD = f"""# Speech

Made by `make speech SPEECH_DIR=folder` (tests/speech/): real recordings and Whisper's own weights, on the CPU, through the product
(HTTP, decoder, voice detection, engine, events) and through whisper-cli, built from the source that the product's engine comes from.
Both have beam {BEAM_SIZE}, the language that is spoken, and as many threads; the product was asked for words as well.

Words are compared by jiwer behind the normaliser of Whisper's paper (English) or its basic one; Chinese and Japanese by characters.
A time is "off" where it is more than {OFF_SECS} s from any speech. The product gets each recording {RUNS} times, and its first run is
judged. The real-time factor is time of work by time of audio, without loading the model: for the product its timings decode, plan and
engine, for whisper-cli its whole run. Where both were asked for the language, "detected" is what they took it for.
"""


def document(found: Sequence[Measured]) -> str:
    """Return the whole file."""
    models = list(dict.fromkeys(item.model for item in found))
    parts = [HEAD, "## In short", _table(_summary(found, models))]
    for model in models:
        mine = [item for item in found if item.model == model]
        parts += [f"## Words, {model}", _table(_words(mine))]
        if timed := [item for item in mine if item.clip.speech]:
            parts += [f"## Times, {model}", _table(_times(timed))]
    wrong = complaints(found)
    parts += ["## What is wrong", "\n".join(f"- {text}" for text in wrong) or "Nothing."]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def complaints(found: Sequence[Measured]) -> list[str]:
    """Return what the product must not do, and did."""
    wrong = [f"{item.clip.name} with {item.model}: {text}" for item in found for text in _of(item)]
    for model in dict.fromkeys(item.model for item in found):
        mine = [item for item in found if item.model == model and item.clip.text]
        ours = sum((_errors(item, item.runs[0]) for item in mine), Errors(0, 0))
        best = sum(
            (min((_errors(item, h) for h in item.peers.values()), key=_wrong) for item in mine), Errors(0, 0)
        )
        if ours.wrong > best.wrong + max(WORSE_WORDS, WORSE_RATE * best.length):
            wrong.append(
                f"{model}: {ours.wrong} words are wrong, {best.wrong} where whisper-cli is at its best."
            )
    return wrong


def _of(item: Measured) -> list[str]:
    wrong = []
    if not same(item.runs):
        wrong.append(f"{RUNS} runs are not the same: {agreement(item.runs)}.")
    # The normaliser drops what stands in brackets: "(upbeat music)" describes a sound, and is no word that somebody said.
    if item.clip.text == "" and _errors(item, item.runs[0]).wrong:
        wrong.append(f"nothing is said, and the text is {item.runs[0].text!r}.")
    if item.clip.speech:
        judged = times(item.runs[0], item.clip.speech)
        off = [value for value in judged.off_starts + judged.off_ends if value > OFF_SECS]
        if off:
            wrong.append(f"{len(off)} times of segments are up to {max(off):.1f} s from any speech.")
        if judged.long_words or judged.off_words:
            wrong.append(f"{judged.long_words} words last too long, {judged.off_words} are not in speech.")
    return wrong


def _wrong(found: Errors) -> int:
    return found.wrong


def _errors(item: Measured, heard: Heard) -> Errors:
    return errors(item.clip.text or "", heard.text, item.clip.language)


def _summary(found: Sequence[Measured], models: Sequence[str]) -> list[list[str]]:
    """For each model and system what it did with all recordings that it had."""
    rows = [
        [
            "model",
            "system",
            "recordings with a text",
            "wrong",
            "of",
            "rate",
            "real-time factor",
            "recordings alike in all runs",
        ]
    ]
    for model in models:
        for system in SYSTEMS:
            mine = [item for item in found if item.model == model and system in item.systems()]
            known = [item for item in mine if item.clip.text]
            if not mine:
                continue
            total = sum((_errors(item, item.systems()[system]) for item in known), Errors(0, 0))
            factor = sum(item.systems()[system].secs for item in mine) / sum(item.audio_secs for item in mine)
            alike = f"{sum(same(item.runs) for item in mine)} of {len(mine)}" if system == PRODUCT else ""
            counts = [str(len(known)), str(total.wrong), str(total.length), f"{total.rate:.1%}"]
            rows.append([model, system, *counts, f"{factor:.2f}", alike])
    return rows


def _words(found: Sequence[Measured]) -> list[list[str]]:
    rows = [
        [
            "recording",
            "seconds",
            "language",
            "detected",
            "measure",
            *SYSTEMS,
            "product to whisper-cli",
            "real-time factors",
            "runs",
        ]
    ]
    for item in found:
        systems = item.systems()
        cells = [_rate(item, systems[name]) if name in systems else "" for name in SYSTEMS]
        peer = next(iter(item.peers.values()))
        apart = errors(peer.text, item.runs[0].text, item.clip.language)
        factors = " / ".join(
            f"{systems[name].secs / item.audio_secs:.2f}" for name in SYSTEMS if name in systems
        )
        detected = ", ".join(f"{name}: {language}" for name, language in item.languages.items())
        kind = measure(item.clip.language)
        head = [item.clip.name, f"{item.audio_secs:.1f}", item.clip.language or "none", detected, kind]
        rows.append([*head, *cells, f"{apart.rate:.1%}", factors, agreement(item.runs)])
    return rows


def _rate(item: Measured, heard: Heard) -> str:
    """Return the share of errors; the number of words where nothing is said; nothing where nobody knows what is said."""
    if item.clip.text is None:
        return "no reference"
    counted = _errors(item, heard)
    return f"{counted.rate:.1%}" if counted.length else f"{counted.wrong} words"


def _times(found: Sequence[Measured]) -> list[list[str]]:
    rows = [
        [
            "recording",
            "system",
            "segments",
            "pieces of speech",
            "without a segment",
            "start: median, worst",
            "end: median, worst",
            "starts off, worst",
            "ends off, worst",
            "words over 2 s",
            "words off",
        ]
    ]
    for item in found:
        for name, heard in item.systems().items():
            judged = times(heard, item.clip.speech)
            counts = [str(len(heard.segments)), str(len(item.clip.speech)), str(judged.missed)]
            words = [str(judged.long_words), str(judged.off_words)] if heard.words else ["", ""]
            rows.append([item.clip.name, name, *counts, *_sizes(judged), *words])
    return rows


def _sizes(judged: Times) -> list[str]:
    near = ["{:.2f}, {:.2f}".format(*middle_and_worst(values)) for values in (judged.starts, judged.ends)]
    off = [
        f"{sum(value > OFF_SECS for value in values)}, {max(values, default=0):.2f}"
        for values in (judged.off_starts, judged.off_ends)
    ]
    return near + off


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
