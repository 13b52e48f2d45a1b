"""How good the demo model is, as whisper.cpp runs it: `.venv/bin/python demo_model/evaluate.py [WINDOWS]`.

Speaks phrases that were not trained on (their seeds begin where the training's end), lays them out with pauses, and
transcribes them with the service's own engine process. Needs espeak-ng. Prints word error rate, language and times.
"""

import asyncio
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
import speech

sys.path.insert(0, str(Path(__file__).parent.parent))

from gpu_worker.engine.process import EngineProcess  # noqa: E402 - the repository is no installed package here
from gpu_worker.engine.protocol import Finished, Load, SegmentFound, Transcribe  # noqa: E402
from schemas.options import Task, TranscribeOptions
from standalone import known_models, models  # noqa: E402

FIRST_SEED = 1_000_000
RATE = speech.SAMPLE_RATE


def window(seed: int) -> tuple[np.ndarray, str, list[tuple[float, float, list[int]]]]:
    """10 to 60 s of one language: audio, language, and (start, end, digits) per phrase."""
    rng, parts, spoken = random.Random(seed), [np.zeros(RATE // 2, np.float32)], []
    lang, voice, at = rng.choice(["en", "de"]), "", 0.5
    voice = rng.choice(speech.VOICES[lang])
    length, speed, pitch = rng.uniform(10, 60), rng.randint(110, 190), rng.randint(30, 70)
    while at < length - 4:
        digits = [rng.randrange(10) for _ in range(rng.randint(1, 6))]
        clip = speech.say(" ".join(speech.WORDS[lang][d] for d in digits), voice, speed, pitch)
        pause = np.zeros(int(rng.uniform(0.5, 2.0) * RATE), np.float32)
        spoken.append((at, at + len(clip) / RATE, digits))
        parts += [clip, pause]
        at += (len(clip) + len(pause)) / RATE
    audio = np.concatenate(parts) * rng.uniform(0.3, 1.0)
    return (
        audio + np.random.default_rng(seed).standard_normal(len(audio)).astype(np.float32) * 3e-4,
        lang,
        spoken,
    )


def distance(a: list[str], b: list[str]) -> int:
    """Word edits from `a` to `b`."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


async def main(windows: int = 100) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = models.fetch(known_models.DEMO, Path(folder), "", lambda _done, _total: None)
        engine = await EngineProcess.start([sys.executable, "-m", "gpu_worker.engine.child"], 60)
        await engine.load(Load(model_path=str(model), threads=2, beam_size=5), 60)
        counts = {"transcribe": [0, 0], "translate": [0, 0]}
        languages, starts, segments, phrases = 0, [], 0, 0
        for seed in range(FIRST_SEED, FIRST_SEED + windows):
            audio, lang, spoken = window(seed)
            pcm = Path(folder) / "pcm"
            audio.astype(np.float32).tofile(pcm)
            for task in Task:
                order = Transcribe(
                    call=0,
                    pcm_path=str(pcm),
                    spans=[(0, len(audio))],
                    options=TranscribeOptions(task=task),
                    prompt="",
                )
                replies = [r async for r in engine.transcribe(order)]
                found = [r for r in replies if isinstance(r, SegmentFound)]
                target = lang if task is Task.TRANSCRIBE else "en"
                wanted = [speech.WORDS[target][d] for _, _, digits in spoken for d in digits]
                counts[task][0] += distance(wanted, "".join(s.text for s in found).split())
                counts[task][1] += len(wanted)
                if task is Task.TRANSCRIBE:
                    languages += sum(r.language == lang for r in replies if isinstance(r, Finished))
                    segments, phrases = segments + len(found), phrases + len(spoken)
                    if len(found) == len(spoken):
                        starts += [abs(s.start - p[0]) for s, p in zip(found, spoken, strict=True)]
        await engine.stop()
    for task, (errors, words) in counts.items():
        print(f"{task}: {100 * errors / words:.2f} % word errors ({errors} of {words})")
    print(f"language: {languages} of {windows}; segments: {segments} for {phrases} phrases")
    print(f"start times: median {np.median(starts):.2f} s off, 95 % within {np.quantile(starts, 0.95):.2f} s")


if __name__ == "__main__":
    asyncio.run(main(*(int(a) for a in sys.argv[1:])))
