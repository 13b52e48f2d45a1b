"""Word errors on real speech, with and without what the decoder does to the level: `python -m tests.recordings.word_errors CLIPS MODEL`.

CLIPS is a folder with recordings and a refs.json: an object with `language` and `text` for each name of a file. MODEL is a file of
whisper.cpp. Each clip is decoded as the service decodes it and as a plain ffmpeg does, and both go to the same engine in the same
stretches that the service would give it. Prints a table in Markdown.
"""

import asyncio
import json
import re
import subprocess
import sys
import tempfile
from difflib import SequenceMatcher
from pathlib import Path

from gpu_worker.audio.decoding import Decoded, decode
from gpu_worker.audio.stretches import PlanSettings
from gpu_worker.engine.process import EngineProcess
from gpu_worker.engine.protocol import Load, SegmentFound, Transcribe
from gpu_worker.job.preparing import find_portions
from gpu_worker.pcm import SAMPLE_BYTES
from gpu_worker.settings import WorkerSettings
from schemas.options import MAX_BEAM_SIZE, TranscribeOptions
from tests.support.ffmpeg import ffmpeg

SPOILT = {
    "clean": "anull",
    "quiet by 30 dB": "volume=-30dB",
    "quiet by 40 dB": "volume=-40dB",
    "quiet by 50 dB": "volume=-50dB",
    "5 % of direct current": "volume=0.5,dcshift=0.05",
    "rumble at 30 Hz": "asplit[a][b];[b]volume=0,aeval='0.2*sin(2*PI*30*t)'[r];[a]volume=0.5[v];[v][r]amix=normalize=0",
    "out of phase": "aformat=channel_layouts=mono,pan=stereo|c0=c0|c1=-1*c0",
}


def spoil(clip: Path, filters: str, to: Path) -> None:
    """Write the clip behind a filter."""
    command = [
        ffmpeg(),
        "-v",
        "error",
        "-y",
        "-i",
        str(clip),
        "-filter_complex",
        filters,
        "-c:a",
        "pcm_f32le",
        str(to),
    ]
    subprocess.run(command, check=True)


def plain(source: Path, folder: Path, ours: Decoded) -> Decoded:
    """Decode as the service did before: one mono mix, and nothing else."""
    pcm = folder / "plain.pcm"
    as_pcm = ["-ac", "1", "-ar", "16000", "-f", "f32le", str(pcm)]
    subprocess.run([ffmpeg(), "-v", "error", "-y", "-i", str(source), *as_pcm], check=True)
    return Decoded(files=[pcm], samples=pcm.stat().st_size // SAMPLE_BYTES, findings=ours.findings)


async def words_of(engine: EngineProcess, decoded: Decoded, language: str) -> list[str]:
    """Transcribe as the service does, greedily, because that gives the same text each time."""
    said, options = list[str](), TranscribeOptions(language=language, beam_size=1)
    for portion in await find_portions(decoded, PlanSettings(), (0, decoded.samples), use_vad=True):
        for piece in portion:
            order = Transcribe(call=0, pcm_path=str(piece.pcm), spans=piece.stretch, options=options, said=[])
            said += [r.text async for r in engine.transcribe(order) if isinstance(r, SegmentFound)]
    return normal("".join(said))


def normal(text: str) -> list[str]:
    """Words without case and punctuation."""
    return re.sub(r"[^\w' ]", " ", text.lower().replace("-", " ")).split()


def errors(heard: list[str], said: list[str]) -> int:
    """Substituted, left out and added words."""
    blocks = SequenceMatcher(a=said, b=heard, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for kind, i1, i2, j1, j2 in blocks if kind != "equal")


async def main(clips: Path, model: Path) -> None:
    """Print the table."""
    settings = WorkerSettings()
    engine = await EngineProcess.start(settings.command(), stall_secs=600)
    order = Load(model_path=str(model), threads=settings.threads(), beam_size=MAX_BEAM_SIZE)
    await engine.load(order, 600)
    refs = json.loads((clips / "refs.json").read_text())
    known = [{"file": name, **ref} for name, ref in refs.items() if ref["text"] and " " in ref["text"]]
    if ".en" in model.name:
        known = [ref for ref in known if ref["language"] == "en"]
    print(f"| {model.name}, {len(known)} clips | words | plain ffmpeg | the service |\n|---|---|---|---|")
    for name, filters in SPOILT.items():
        total, before, after = 0, 0, 0
        for ref in known:
            with tempfile.TemporaryDirectory() as folder:
                source = Path(folder) / "spoilt.wav"
                spoil(clips / ref["file"], filters, source)
                ours = await decode(source, Path(folder))
                said = normal(ref["text"])
                total += len(said)
                after += errors(await words_of(engine, ours, ref["language"]), said)
                theirs = plain(source, Path(folder), ours)
                before += errors(await words_of(engine, theirs, ref["language"]), said)
        print(f"| {name} | {total} | {before / total:.1%} | {after / total:.1%} |", flush=True)
    await engine.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
