"""Make the training speech: spoken digit phrases in English and German, by espeak-ng.

Run as ``python speech.py OUT.npz [PHRASES]``. Needs espeak-ng on PATH and numpy.
The result holds one long int16 array at 16 kHz and, per phrase, its bounds, language and digits.
"""

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

SAMPLE_RATE = 16_000
ESPEAK_RATE = 22_050
WAV_HEADER = 44

WORDS = {
    "en": "zero one two three four five six seven eight nine".split(),
    "de": "null eins zwei drei vier fünf sechs sieben acht neun".split(),
}
_VARIANTS = ["", "+m1", "+m2", "+m3", "+m4", "+m5", "+m7", "+f1", "+f2", "+f3", "+f4", "+f5"]
_VARIANTS += ["+Andy", "+Annie", "+Alex", "+Lee", "+Michael", "+linda", "+steph", "+paul", "+quincy"]
_ACCENTS = {"en": ["en-us", "en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland"], "de": ["de"]}
VOICES = {lang: [a + v for a in accents for v in _VARIANTS] for lang, accents in _ACCENTS.items()}


def resample(samples: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Band-limited resampling through the FFT: float32 in, float32 out, same duration."""
    length = int(len(samples) * target_rate / source_rate)
    spectrum = np.fft.rfft(samples)
    out = np.zeros(length // 2 + 1, complex)
    bins = min(len(out), len(spectrum))
    out[:bins] = spectrum[:bins]
    return (np.fft.irfft(out, length) * length / len(samples)).astype(np.float32)


def trim(samples: np.ndarray, threshold: float = 0.005) -> np.ndarray:
    """Cut what is quieter than `threshold` (full scale = 1) off both ends, keeping 10 and 20 ms."""
    loud = np.flatnonzero(np.abs(samples) > threshold)
    return samples[max(0, loud[0] - 160) : loud[-1] + 320] if len(loud) else samples


def say(text: str, voice: str, speed: int, pitch: int) -> np.ndarray:
    """Speak `text`: trimmed mono float32 at 16 kHz."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    pcm = np.frombuffer(wav[WAV_HEADER:], np.int16).astype(np.float32) / 32768
    return trim(resample(pcm, ESPEAK_RATE, SAMPLE_RATE))


def phrase(seed: int) -> tuple[str, list[int], np.ndarray]:
    """One random phrase of 1 to 6 digits; the same seed gives the same phrase."""
    rng = random.Random(seed)
    lang = rng.choice(["en", "de"])
    digits = [rng.randrange(10) for _ in range(rng.choice([1, 2, 3, 3, 4, 5, 6]))]
    text = " ".join(WORDS[lang][d] for d in digits)
    samples = say(text, rng.choice(VOICES[lang]), rng.randint(105, 205), rng.randint(25, 75))
    return lang, digits, samples


def main(out: str, count: int = 9000) -> None:
    with ThreadPoolExecutor(3) as pool:
        phrases = list(pool.map(phrase, range(count)))
    bounds = np.cumsum([0] + [len(p[2]) for p in phrases])
    audio = (np.concatenate([p[2] for p in phrases]).clip(-1, 1) * 32767).astype(np.int16)
    digits = np.full((count, 6), -1, np.int8)
    for row, (_, spoken, _) in zip(digits, phrases, strict=True):
        row[: len(spoken)] = spoken
    np.savez(out, audio=audio, bounds=bounds, digits=digits, lang=[p[0] for p in phrases])
    print(f"{count} phrases, {bounds[-1] / SAMPLE_RATE / 3600:.1f} h of speech")


if __name__ == "__main__":
    main(sys.argv[1], *(int(a) for a in sys.argv[2:]))
