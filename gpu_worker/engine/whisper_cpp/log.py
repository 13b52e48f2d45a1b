"""What the engine process reads from whisper.cpp's log, because no function of whisper.cpp returns it."""

import re
import sys

LOADED_MARK = "compute buffer (decode)"
"""Part of the last line of a load that has worked. A failed load returns an object that crashes when it is used."""
LOG_LEVEL_ERROR = 4
"""GGML_LOG_LEVEL_ERROR in ggml.h."""
BACKEND = re.compile(r"using (\S+) backend")
DEVICE = re.compile(r"Device \d+: ([^,]+),")
TIMING = re.compile(r"whisper_print_timings: +(\w+) time = +([0-9.]+) ms")
DETECTED = re.compile(r"auto-detected language: (\w+) \(p = ([0-9.]+)\)")


class WhisperLog:
    """The log callback: keeps backend, device, detected language and timings, and writes the other lines to stderr."""

    def __init__(self) -> None:
        self.loaded = False
        self.backend, self.device = "cpu", ""
        self.detected: tuple[str, float] | None = None
        """Language code and probability of the last detection."""
        self.last_error = ""
        self.secs: dict[str, float] = {}
        """Seconds by the names that whisper_print_timings gives: mel, encode, decode, batchd, prompt, sample."""

    def __call__(self, level: int, text: str) -> None:
        """Take one piece of whisper.cpp's log."""
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
        if level >= LOG_LEVEL_ERROR and text.strip():
            self.last_error = text.strip()

    def backend_name(self) -> str:
        """Return the backend and its device; `cpu` unless whisper.cpp has logged that it uses another one.

        whisper.cpp falls back to the CPU without an error, so that the log is the only way to know.
        """
        name = self.backend.lower()
        # A build with CUDA logs its devices also where it does not use them.
        if name == "cpu":
            return name
        return f"{self.backend} ({self.device})" if self.device else name
