"""What the return codes of `whisper_full` mean, read in the source of whisper.cpp 1.8.5."""

REASONS = {
    -1: "voice activity detection failed",
    -2: "the spectrogram could not be computed",
    -3: "the language could not be detected",
    -4: "more decoders were asked for than whisper.cpp has",
    -5: "the audio context is too large",
    -6: "the encoder failed",
    -7: "there is no memory for the decoder's cache",
    -8: "the decoder failed",
    -9: "the decoder failed",
}
FATAL = frozenset({-7})
"""After -7 whisper.cpp has freed its state but still points to it: the process must not call it again."""


def reason(code: int) -> str:
    """Return the sentence for an error code, which is not 0."""
    return REASONS.get(code, f"whisper.cpp error {code}")
