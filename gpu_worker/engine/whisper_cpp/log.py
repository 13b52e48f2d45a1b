"""What the engine process reads from whisper.cpp's log, because no function of whisper.cpp returns it."""

import re
import sys

LOG_LEVEL_ERROR = 4
"""GGML_LOG_LEVEL_ERROR in ggml.h."""
BACKEND = re.compile(r"using (\S+) backend")
DEVICE = re.compile(r"Device \d+: ([^,]+),")
DETECTED = re.compile(r"auto-detected language: (\w+) \(p = ([0-9.]+)\)")


class WhisperLog:
    """The log callback: keeps backend, device and detected language, and writes all lines to stderr."""

    def __init__(self) -> None:
        self.backend, self.device = "cpu", ""
        self.detected: tuple[str, float] | None = None
        """Language code and probability of the last detection."""
        self.last_error = ""

    def __call__(self, level: int, text: str) -> None:
        """Take one piece of whisper.cpp's log."""
        sys.stderr.write(text)
        if found := BACKEND.search(text):
            self.backend = found[1]
        if found := DEVICE.search(text):
            self.device = found[1]
        if found := DETECTED.search(text):
            self.detected = found[1], float(found[2])
        if level >= LOG_LEVEL_ERROR and text.strip():
            self.last_error = text.strip()

    def expect_backend(self) -> None:
        """Forget the backend before a state is made, which opens it and logs it."""
        self.backend = "cpu"

    def backend_name(self) -> str:
        """Return the backend and its device; `cpu` unless whisper.cpp has logged that it uses another one.

        whisper.cpp falls back to the CPU without an error, so that the log is the only way to know.
        """
        name = self.backend.lower()
        # A build with CUDA logs its devices also where it does not use them.
        if name == "cpu":
            return name
        return f"{self.backend} ({self.device})" if self.device else name
