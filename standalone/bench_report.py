"""The figures of `whisper-jetstream bench`, and the table of them. Pure."""

import msgspec


class EngineFigures(msgspec.Struct, kw_only=True, frozen=True):
    """The figures of one way to run the model: seconds for the whole file, as medians of the rounds."""

    flash_attn: bool
    beam_size: int
    secs: float = 0.0
    rtf: float = 0.0
    """Seconds of work per second of audio."""
    mel_secs: float = 0.0
    encode_secs: float = 0.0
    tokens_secs: float = 0.0
    windows: int = 0
    tokens: int = 0
    fallbacks: int = 0
    """Attempts at a window that were given up for a higher temperature."""
    failure: str | None = None
    """Why there are no figures, such as too little VRAM; None where there are."""


class ServiceFigures(msgspec.Struct, kw_only=True, frozen=True):
    """Seconds from the submission of a job to its `done` event, as medians of the rounds."""

    secs: float
    added_secs: float
    """Seconds more than the engine alone with the same settings."""
    cold: dict[str, float | None]
    """`timings` of a job that had to wait for the model."""
    warm: dict[str, float | None]


class Report(msgspec.Struct, kw_only=True, frozen=True):
    """Everything that was measured on one file."""

    audio: str
    audio_secs: float
    speech_secs: float
    model: str
    backend: str
    rounds: int
    engine: list[EngineFigures]
    service: ServiceFigures


def table(report: Report) -> str:
    """Return the report as a table for people."""
    lines = [
        f"{report.audio}: {report.audio_secs:.1f} s, {report.speech_secs:.1f} s of them given to the engine",
        f"model {report.model} on {report.backend}; medians of {report.rounds} rounds",
        "",
        "flash attention  beam  seconds  real-time factor      spectrogram  encoder  decoder",
    ]
    for run in report.engine:
        head = f"{'on' if run.flash_attn else 'off':<15}  {run.beam_size:<4}  "
        if run.failure is not None:
            lines.append(f"{head}{run.failure}")
            continue
        speed = f"{run.rtf:.4f} ({1 / run.rtf:.0f} x real time)" if run.rtf else "-"
        parts = f"{run.mel_secs:>11.3f}  {run.encode_secs:>7.3f}  {run.tokens_secs:>7.3f}"
        lines.append(f"{head}{run.secs:>7.3f}  {speed:<20}  {parts}")
        lines.append(f"{'':<23}{run.windows} windows, {run.tokens} tokens, {run.fallbacks} fallbacks")
    service = report.service
    share = f"{100 * service.added_secs / (service.secs - service.added_secs):.0f} %"
    lines += [
        "",
        f"The whole service, beam 5, model loaded: {service.secs:.3f} s per job,",
        f"{service.added_secs:.3f} s ({share}) more than the engine alone.",
    ]
    return "\n".join(lines)
