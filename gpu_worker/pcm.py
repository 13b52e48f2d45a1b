"""The one form that audio has inside a worker: mono float32 samples in [-1, 1] at 16 kHz, without a header.

Whisper and the voice detector were both trained at this rate, so nothing is converted a second time.
"""

SAMPLE_RATE = 16_000
"""Samples per second."""
SAMPLE_BYTES = 4
"""Bytes of one float32 sample."""
