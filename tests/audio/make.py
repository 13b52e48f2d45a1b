"""Make the speech files of the tests: `python tests/audio/make.py`. Needs espeak-ng; run once, the results are committed.

The phrases are none that the demo model was trained on (their seeds begin where the training's end). expected.json
tells, for each file, language and phrases with their times; make.py knows them because it puts the phrases there.
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "demo_model"))

import speech  # noqa: E402 - demo_model is no package; its training speech is made by the same code

RATE = speech.SAMPLE_RATE
NOISE = 1e-4

# name: (seed, language, number of phrases, pauses in seconds, ffmpeg's output options)
FILES: dict[str, tuple[int, str, int, tuple[float, float], list[str]]] = {
    "english.flac": (1, "en", 3, (0.6, 1.2), []),
    "german.flac": (2, "de", 3, (0.6, 1.2), []),
    "long.ogg": (101, "en", 26, (0.6, 1.9), ["-c:a", "libopus", "-b:a", "24k"]),
    "pauses.ogg": (4, "en", 6, (7.0, 9.0), ["-c:a", "libopus", "-b:a", "24k"]),
    "english.mp3": (100, "en", 3, (0.6, 1.2), ["-b:a", "48k"]),
    "english.opus": (6, "en", 3, (0.6, 1.2), ["-c:a", "libopus", "-b:a", "24k", "-f", "ogg"]),
    "english.m4a": (7, "en", 3, (0.6, 1.2), ["-c:a", "aac", "-b:a", "48k"]),
    "video.mp4": (8, "en", 3, (0.6, 1.2), ["-c:a", "aac", "-b:a", "48k", "-c:v", "mpeg4", "-shortest"]),
    "telephone.wav": (115, "en", 2, (0.6, 1.0), ["-ar", "8000", "-c:a", "pcm_mulaw"]),
    "stereo48k.flac": (10, "de", 2, (0.6, 1.0), ["-ar", "48000", "-ac", "2"]),
}


def no_repeats(rng: random.Random, count: int) -> list[int]:
    """No digit twice in a row: counting those is what the demo model is worst at (demo_model/README.md)."""
    digits = [rng.randrange(10)]
    while len(digits) < count:
        digits += [d for d in [rng.randrange(10)] if d != digits[-1]]
    return digits


def compose(seed: int, lang: str, count: int, pauses: tuple[float, float]) -> tuple[np.ndarray, list[dict]]:
    rng = random.Random(seed)
    voice, speed, pitch = rng.choice(speech.VOICES[lang][:12]), rng.randint(120, 160), rng.randint(35, 65)
    parts, phrases, at = [np.zeros(int(0.5 * RATE), np.float32)], [], 0.5
    for _ in range(count):
        digits = no_repeats(rng, rng.randint(2, 6))
        text = " ".join(speech.WORDS[lang][d] for d in digits)
        clip = speech.say(text, voice, speed, pitch)
        end = at + len(clip) / RATE
        english = " ".join(speech.WORDS["en"][d] for d in digits)
        phrases.append({"start": round(at, 2), "end": round(end, 2), "text": text, "english": english})
        pause = rng.uniform(*pauses)
        parts += [clip, np.zeros(int(pause * RATE), np.float32)]
        at = end + int(pause * RATE) / RATE
    audio = np.concatenate(parts)
    return audio + np.random.default_rng(seed).standard_normal(len(audio)).astype(np.float32) * NOISE, phrases


def encode(audio: np.ndarray, path: Path, options: list[str]) -> None:
    video = ["-f", "lavfi", "-i", "testsrc=s=64x64:r=5"] if path.suffix == ".mp4" else []
    source = ["-f", "f32le", "-ar", str(RATE), "-ac", "1", "-i", "-"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *source, *video, *options, str(path)]
    subprocess.run(command, input=(audio * 0.7).astype(np.float32).tobytes(), check=True)


def main() -> None:
    expected = {}
    for name, (seed, lang, count, pauses, options) in FILES.items():
        audio, phrases = compose(seed, lang, count, pauses)
        encode(audio, HERE / name, options)
        expected[name] = {"language": lang, "seconds": round(len(audio) / RATE, 2), "phrases": phrases}
    encode(np.zeros(8 * RATE, np.float32), HERE / "silence.flac", [])
    expected["silence.flac"] = {"language": None, "seconds": 8.0, "phrases": []}
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
