"""One track, decoded from its first packet to its last: frames are put on the player's clock, mixed, and written."""

import av
import numpy as np
from av.container import InputContainer
from av.stream import Stream
from numpy.typing import NDArray

from gpu_worker.audio.decoder import container as containers
from gpu_worker.audio.decoder import headers, lengths
from gpu_worker.audio.decoder.container import Ends, Undecodable
from gpu_worker.audio.decoder.damage import Damage
from gpu_worker.audio.decoder.declaration import Declaration
from gpu_worker.audio.decoder.frames import Frames
from gpu_worker.audio.decoder.output import Output
from gpu_worker.audio.decoder.protocol import Order, Report, TrackFacts
from gpu_worker.audio.decoder.timeline import Timeline, origin_secs
from gpu_worker.pcm import SAMPLE_RATE
from schemas.errors import ErrorCode

Samples = NDArray[np.float32]

IMPLAUSIBLE_AFTER_SECS, IMPLAUSIBLE_BYTES_PER_SEC = 3600.0, 8.0
"""Longer sound from fewer bytes is no recording: codecs for radio need 56 a second, FLAC of silence at 8 kHz 27."""


WITH_EMPTY_FRAMES = frozenset({"amr_nb", "amr_wb", "amrnb", "amrwb"})
"""Telephone codecs whose frames may say that nobody speaks, for which FFmpeg has an error and no samples."""


class TrackDecoding:
    """One pass over one track."""

    def __init__(self, order: Order, ends: Ends, source: InputContainer, track: TrackFacts) -> None:
        self._order, self._source, self._track = order, source, track
        self._stream = source.streams.audio[track.number - 1]
        self._ends = ends
        self._is_cut = order.raw is None and headers.is_cut(ends.head, ends.size)
        self._declared = Declaration(order, ends, source, self._stream)
        self._pictures = source.streams.video[:1]
        """Some containers have one length for all tracks. There the picture tells whether the file was cut off."""
        self._pictures_end = self._empty_until = 0.0
        name = containers.short_name(source)
        self._origin = origin_secs(name, (source.start_time or 0) / av.time_base)
        self._timeline = Timeline(self._origin, self._declared.secs)
        self._output = Output(order)
        self._frames: Frames | None = None
        self._tick = float(self._stream.time_base or 0)
        self._skipped = 0
        """Samples that are still to be left out, because they lie before 0:00."""
        self._decoded = self._bytes = 0
        self._damage = Damage()

    def run(self, tracks: list[TrackFacts], silent: list[int]) -> Report:
        """Decode the track. Raises Undecodable, OSError."""
        self._decode()
        self._flush()
        if self._decoded == 0:
            raise self._nothing()
        self._silence(self._empty_until - self._timeline.cursor)
        samples = round(self._timeline.cursor * SAMPLE_RATE)
        done = self._output.finish(samples)
        return Report(
            container=containers.short_name(self._source),
            tracks=tracks,
            track=self._track.number,
            files=done.paths,
            samples=samples,
            declared_secs=self._declared.secs,
            track_declared_secs=self._declared.track_secs(self._origin),
            reached_secs=max(self._timeline.cursor, self._pictures_end),
            decoded_samples=self._decoded,
            decoder_errors=self._damage.inside,
            ends_inside=self._ends_inside(),
            silent_tracks=silent,
            level_db=done.level_db,
            gain_db=done.gain_db,
            channels_differ=done.differ,
            channels_same=done.same,
        )

    def _decode(self) -> None:
        """Decode packet by packet. A damaged packet is counted, and the next one tried."""
        packets = self._source.demux(self._stream, *self._pictures)
        while True:
            try:
                for packet in packets:
                    if packet.stream is not self._stream and packet.stream.type == "video":
                        self._saw_picture(packet)
                    else:
                        self._saw_sound(packet)
                    self._check_length()
                return
            except av.FFmpegError:
                # The container itself is damaged here.
                self._damage.undecodable()

    def _saw_sound(self, packet: "av.Packet[Stream]") -> None:
        self._bytes += packet.size
        try:
            frames = packet.decode()
        except av.FFmpegError:
            if self._track.codec in WITH_EMPTY_FRAMES:
                self._empty_until = self._end_of(packet)
            elif packet.size:
                # An empty packet only brings a new header.
                self._damage.undecodable()
            return
        for frame in frames:
            if isinstance(frame, av.AudioFrame):
                self._take(frame)
        if packet.size and packet.is_corrupt:
            self._damage.incomplete()
        elif packet.size:
            self._damage.good()

    def _check_length(self) -> None:
        copies = self._track.channels if self._order.split else 1
        if self._timeline.cursor * copies > self._order.max_secs:
            each = f", {copies} channels together" if copies > 1 else ""
            message = f"The audio is longer than the {self._order.max_secs:.0f} seconds that are allowed here{each}."
            raise Undecodable(ErrorCode.AUDIO_TOO_LONG, message)

    def _saw_picture(self, packet: "av.Packet[Stream]") -> None:
        self._pictures_end = max(self._pictures_end, self._end_of(packet))

    def _end_of(self, packet: "av.Packet[Stream]") -> float:
        """Return where a packet ends on the player's clock; 0 where nobody knows."""
        if packet.pts is None or packet.time_base is None:
            return 0.0
        return float((packet.pts + (packet.duration or 0)) * packet.time_base) - self._origin

    def _take(self, frame: av.AudioFrame) -> None:
        """Put one frame behind the others, and silence before it where the container has none."""
        silence = self._timeline.silence_before(None if frame.pts is None else frame.pts * self._tick)
        frames = self._frames
        if frames is None or silence or not frames.takes(frame):
            frames = self._begin(frame, silence)
        self._decoded += frame.samples
        self._timeline.advance(frame.samples / frames.rate)
        if frames.add(frame):
            for block in frames.blocks():
                self._write(block, frames)

    def _begin(self, frame: av.AudioFrame, silence: float) -> Frames:
        """Begin a run of frames, behind so many seconds of silence; negative where its beginning lies before 0:00."""
        self._flush()
        containers.check_sound(frame.sample_rate, frame.layout.nb_channels)
        frames = self._frames = Frames(frame)
        self._output.begin(frames.channels)
        if silence < 0:
            # What comes before 0:00 is not heard.
            before = min(round(-silence * frames.rate), frame.samples)
            self._skipped += before
            self._timeline.advance(-before / frames.rate)
        self._silence(silence)
        return frames

    def _silence(self, secs: float) -> None:
        """Put silence behind what there is; nothing where `secs` is not positive."""
        secs = min(secs, self._order.max_secs + 1 - self._timeline.cursor)
        if secs > 0:
            self._output.silence(secs)
            self._timeline.advance(secs)

    def _flush(self) -> None:
        """Write what is gathered."""
        frames, self._frames = self._frames, None
        if frames is not None:
            for block in frames.rest():
                self._write(block, frames)

    def _write(self, block: Samples, frames: Frames) -> None:
        self._check_plausible(frames.rate)
        skipped = min(self._skipped, block.shape[1])
        self._skipped -= skipped
        if skipped < block.shape[1]:
            self._output.sound(block[:, skipped:], frames.rate, frames.layout)

    def _check_plausible(self, rate: int) -> None:
        secs = self._decoded / rate
        if secs > IMPLAUSIBLE_AFTER_SECS and self._bytes < secs * IMPLAUSIBLE_BYTES_PER_SEC:
            message = f"The file claims more than {secs / 3600:.0f} h of sound in {self._bytes:,} bytes, which no recording has."
            raise Undecodable(ErrorCode.AUDIO_UNDECODABLE, message)

    def _ends_inside(self) -> bool:
        if self._is_cut:
            return True
        if self._declared.has_wrong_size or self._track.codec.startswith(lengths.BLOCKS):
            return False
        return self._damage.at_end or (
            containers.short_name(self._source) == "ogg" and lengths.ends_inside_ogg_page(self._ends.tail)
        )

    def _nothing(self) -> Undecodable:
        if self._damage.any:
            message = f"The audio track ({self._track.codec}) is damaged: nothing in it can be decoded."
            return Undecodable(ErrorCode.AUDIO_UNDECODABLE, message)
        return Undecodable(ErrorCode.AUDIO_EMPTY, "The file has an audio track, but no sound in it.")
