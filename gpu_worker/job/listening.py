"""Calls of the engine: one piece goes in, and its segments come out with the times of the file."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

from gpu_worker.audio import stretches
from gpu_worker.audio.plan import Piece
from gpu_worker.audio.stretches import Stretch
from gpu_worker.engine.failure import EngineFailure
from gpu_worker.engine.process import EngineProcess
from gpu_worker.engine.protocol import Aborted, Finished, ProgressMade, Rejected, SegmentFound, Transcribe
from gpu_worker.job.segments import Reader, said
from gpu_worker.model.model import Stopped
from schemas.errors import ErrorCode
from schemas.jobs import JobRecord, Segment
from schemas.languages import AUTO
from schemas.recordings import SPLIT

log = logging.getLogger(__name__)

MOST_CALLS = 4
"""Calls of the engine for one piece: each but the first is for voice that the one before has left out."""
GIVE_UP_SECS = 60.0
"""How long an engine may take to end a call that is made again: an abort is seen when a window is encoded, seconds later on a slow CPU.

A job that must give up does not wait for that.
"""
Publish = Callable[[Segment], Awaitable[None]]
"""What is done with a segment that is found. Raises Differs."""
Report = Callable[[Stretch, float], Awaitable[None]]
"""Called with a stretch and the share of it that is done, from 0 to 1."""


class EngineRefused(Exception):
    """The engine refuses this job's audio, or an option; the sentence says why."""

    def __init__(self, reason: str, code: ErrorCode = ErrorCode.TRANSCRIPTION_FAILED) -> None:
        super().__init__(reason)
        self.code = code


class Listening:
    """Has the pieces of one job transcribed, and knows the languages that were found in it."""

    def __init__(self, record: JobRecord, stop: asyncio.Event, grace_secs: float, report: Report) -> None:
        """`stop` is set when the job must give up. An engine that ignores an abort for `grace_secs` is killed."""
        self._id, self._options = record.id, record.request.options
        self._stop, self._grace_secs, self._report = stop, grace_secs, report
        self._is_split = self._options.channels == SPLIT
        self._languages: dict[int | None, str] = {}
        """The language that was found on each channel."""
        if record.language is not None and not self._is_split:
            self._languages[None] = record.language
        self.calls: list[Finished] = []
        """The last reply of each call of the engine."""

    async def transcribe(
        self,
        engine: EngineProcess,
        piece: Piece,
        before: list[Segment],
        progress: tuple[float, float],
        publish: Publish,
    ) -> Finished:
        """Transcribe one piece behind the segments `before`. Returns the last reply.

        `progress` is which share of the portion is behind us, and which one this piece has. Where the engine leaves something out, it
        is called once more behind the text before that. Raises Stopped, EngineRefused, EngineFailure, and what `publish` raises.
        """
        heard = list(before)

        async def hear(segment: Segment) -> None:
            heard.append(segment)
            await publish(segment)

        for calls_left in reversed(range(MOST_CALLS)):
            async with self._aborting_when_stopped(engine):
                try:
                    ended = await self._listen(engine, piece, heard, progress, hear, may_stop=calls_left > 0)
                    if not isinstance(ended, Finished):
                        await engine.give_up(GIVE_UP_SECS)
                except EngineFailure as error:
                    # It ignored the abort, and was killed for that.
                    if self._stop.is_set():
                        raise Stopped from error
                    raise
            if isinstance(ended, Finished):
                return ended
            log.info("job %s: again from %.1f s, where voice was left out", self._id, ended)
            piece = msgspec.structs.replace(piece, stretch=stretches.after(piece.stretch, ended))
        raise EngineRefused("The engine leaves out something in every call.")

    async def _listen(
        self,
        engine: EngineProcess,
        piece: Piece,
        before: list[Segment],
        progress: tuple[float, float],
        publish: Publish,
        *,
        may_stop: bool,
    ) -> Finished | float:
        """Publish what the engine finds. Returns its last reply, or from where in the file, in seconds, it must be asked again."""
        reader = Reader(piece, self._options, before[-1].end if before else 0.0)
        async for reply in engine.transcribe(self._order(piece, before)):
            match reply:
                case SegmentFound():
                    await self._hear(reader, piece.channel, reply, publish)
                    if reader.left_out is not None and may_stop:
                        return reader.left_out
                case ProgressMade(fraction=fraction):
                    await self._report(piece.stretch, progress[0] + fraction * progress[1])
                case Finished():
                    self._finish(piece.channel, reply)
                    return reply
                case Aborted():
                    raise Stopped
                case Rejected() as rejected:
                    raise await self._rejection(engine, rejected)
                case other:
                    raise EngineRefused(f"The engine said {type(other).__name__} in the middle of a call.")
        raise EngineRefused("The engine ended without an answer.")

    async def _rejection(self, engine: EngineProcess, rejected: Rejected) -> Exception:
        if rejected.fatal:
            return await engine.condemn(rejected.reason)
        if rejected.is_option:
            return EngineRefused(rejected.reason, ErrorCode.INVALID_OPTION)
        return EngineRefused(f"The engine refused the audio: {rejected.reason}.")

    async def _hear(self, reader: Reader, channel: int | None, reply: SegmentFound, publish: Publish) -> None:
        if not reply.text.strip():
            return
        if reply.language is not None:
            self._languages.setdefault(channel, reply.language)
        tells_language = self._is_split or self._options.language_changes
        for segment in reader.segments(reply, reply.language if tells_language else None):
            await publish(segment)

    def _finish(self, channel: int | None, reply: Finished) -> None:
        self.calls.append(reply)
        if reply.language is not None:
            self._languages.setdefault(channel, reply.language)
        log.debug(
            "engine: %.4f s in whisper_full after %.4f s of idling", reply.engine_secs, reply.idle_secs or 0.0
        )

    @asynccontextmanager
    async def _aborting_when_stopped(self, engine: EngineProcess) -> AsyncIterator[None]:
        aborting = asyncio.create_task(self._abort_when_stopped(engine), name=f"stop {self._id}")
        try:
            yield
        finally:
            # Not run_in_background: an error of the abort is the engine's death, which the reader of its replies reports.
            aborting.cancel()
            await asyncio.wait([aborting])

    async def _abort_when_stopped(self, engine: EngineProcess) -> None:
        await self._stop.wait()
        await engine.abort()
        await asyncio.sleep(self._grace_secs)
        # It ignored the abort. Whoever reads its replies sees its death.
        engine.kill()

    def _order(self, piece: Piece, before: list[Segment]) -> Transcribe:
        options = self._options
        if options.language == AUTO and not options.language_changes:
            options = msgspec.structs.replace(
                options, language=self._language_of(piece.channel, before) or AUTO
            )
        return Transcribe(
            call=0,
            pcm_path=str(piece.pcm),
            spans=piece.stretch,
            options=options,
            said=said(before, piece.channel),
        )

    def _language_of(self, channel: int | None, before: list[Segment]) -> str | None:
        """Return the language that was found earlier on a channel."""
        told = (segment.language for segment in before if segment.channel == channel and segment.language)
        return self._languages.get(channel) or next(told, None)
