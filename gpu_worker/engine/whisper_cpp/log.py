"""What the engine process learns from whisper.cpp's log, because no function of whisper.cpp tells it."""

import re
import sys

LOADED_MARK = "compute buffer (decode)"
"""whisper.cpp's last words of a load that worked. A failed one returns an object that crashes when it is used."""
BACKEND = re.compile(r"using (\S+) backend")
DEVICE = re.compile(r"Device \d+: ([^,]+),")
TIMING = re.compile(r"whisper_print_timings: +(\w+) time = +([0-9.]+) ms")
DETECTED = re.compile(r"auto-detected language: (\w+) \(p = ([0-9.]+)\)")


class WhisperLog:
    """Keeps what whisper.cpp says of its backend and the detected language; passes all of it on to stderr."""

    def __init__(self) -> None:
        self.loaded = False
        self.backend, self.device = "cpu", ""
        self.detected: tuple[str, float] | None = None
        self.last_error = ""
        self.secs: dict[str, float] = {}
        """Of whisper_print_timings, by the names that it gives."""

    def __call__(self, level: int, text: str) -> None:
        if found := TIMING.search(text):
            self.secs[found[1]] = float(found[2]) / 1000
            return
        sys.stderr.write(text)
        self.loaded |= LOADED_MARK in text
        if found := BACKEND.search(text):
            self.backend = found[1]
        if found := DEVICE.search(text):
            self.device = found[1]
        if found := DETECTED.search(text):
            self.detected = found[1], float(found[2])
        if level >= 4 and text.strip():  # GGML_LOG_LEVEL_ERROR
            self.last_error = text.strip()

    def backend_name(self) -> str:
        """`cpu` unless whisper.cpp said that it uses something else: the fallback is silent otherwise."""
        name = self.backend.lower()
        if name == "cpu":  # a build with CUDA tells of its devices also where it does not use them
            return name
        return f"{self.backend} ({self.device})" if self.device else name
