"""The length that an open container declares, as far as its word can be taken."""

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from gpu_worker.audio.decoder import container as containers
from gpu_worker.audio.decoder import headers, lengths
from gpu_worker.audio.decoder.container import Ends
from gpu_worker.audio.decoder.protocol import Order


class Declaration:
    """What one container declares of one track."""

    def __init__(self, order: Order, ends: Ends, source: InputContainer, stream: AudioStream) -> None:
        self._stream = stream
        self._container = containers.short_name(source)
        is_wav = order.raw is None and self._container == "wav"
        self.has_wrong_size = is_wav and headers.has_wrong_size(ends.head, ends.size)
        """Whether this is a WAV whose header says nothing of how much comes."""
        self._wav_secs = headers.wav_secs(ends.head) if is_wav else None
        self.secs = self._of_container(ends, source)
        """How long the whole file is; None where that is not declared."""

    def _of_container(self, ends: Ends, source: InputContainer) -> float | None:
        if self.has_wrong_size or self._container in lengths.UNDECLARED or headers.lacks_length(ends.head):
            return None
        if self._wav_secs is not None:
            # Of a WAV that was cut off FFmpeg says how much is left.
            return self._wav_secs
        if source.duration is None or source.duration <= 0:
            return None
        secs = source.duration / av.time_base
        context = self._stream.codec_context
        bit_rate = context.bit_rate if context else None
        return None if lengths.is_guess(secs, source.size, bit_rate) else secs

    def track_secs(self, origin: float) -> float | None:
        """Return where the track ends on a clock whose 0:00 is the time stamp `origin`; None where that is not declared."""
        stream = self._stream
        if (
            self.secs is None
            or self._wav_secs is not None
            or stream.duration is None
            or stream.time_base is None
        ):
            return self.secs
        return min(self.secs, float(((stream.start_time or 0) + stream.duration) * stream.time_base) - origin)
