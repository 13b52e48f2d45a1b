"""One job on the engine: stretch by stretch, each segment published as it is found, each stretch committed.

A published segment is final: the event log is the transcript. Whoever takes the job over after a crash begins behind
the last published segment of the first uncommitted stretch.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

import msgspec

from broker.patience import patiently
from gpu_worker.audio import stretches
from gpu_worker.audio.stretches import Stretch
from gpu_worker.engine.failure import EngineFailure
from gpu_worker.engine.process import EngineProcess
from gpu_worker.engine.protocol import Aborted, Finished, ProgressMade, Rejected, SegmentFound, Transcribe
from gpu_worker.job.claim import Claim
from gpu_worker.job.preparing import Plan
from gpu_worker.model.model import Stopped
from gpu_worker.pcm import SAMPLE_RATE
from gpu_worker.services import Services
from schemas.events import Progress, SegmentAdded
from schemas.job_lifecycle import Committed
from schemas.jobs import Segment, Word
from schemas.languages import AUTO

log = logging.getLogger(__name__)

PROMPT_TAIL_CHARS = 200
"""So much of the text so far goes before the next stretch: about what fits into the engine's context of 64 tokens."""


class EngineRefused(Exception):
    """whisper.cpp returned an error code for this job."""


class Transcription:
    def __init__(self, claim: Claim, plan: Plan, services: Services, stop: asyncio.Event) -> None:
        """Of a job that is claimed; `stop` is set where it is to give up."""
        if claim.record is None:
            raise RuntimeError("the job is not claimed")
        self._record = record = claim.record
        self._plan, self._records, self._log = plan, services.records, services.events
        self._stop, self._grace_secs = stop, services.settings.abort_grace_secs
        self._segments = list(claim.segments)
        self._last_seq = claim.last_seq
        self._percent = record.progress
        self._last: tuple[Stretch, Finished | None] | None = None
        self.calls: list[Finished] = []
        """What the engine has told of its time, call by call."""
        self.publish_secs = 0.0
        """Waiting for what was published to be stored."""

    async def run(self, engine: EngineProcess) -> None:
        """Transcribe and commit all that is not committed yet, but for the last commit, which needs no engine.

        Where the engine is lost, it may be called again with another: it goes on behind the last segment.

        Raises Stopped, EngineRefused, EngineFailure, IllegalChange or Conflict (the job is not ours any more). The broker
        is waited for.
        """
        done_secs = self._segments[-1].end if self._segments else 0.0
        for number, stretch in enumerate(self._plan.stretches):
            if number < self._record.committed:
                continue
            rest = stretches.after(stretch, done_secs)
            finished = None
            if rest:
                log.info("job %s: stretch %d of %d", self._record.id, number + 1, len(self._plan.stretches))
                finished = await self._transcribe(engine, rest)
            if number + 1 < len(self._plan.stretches):
                await self._commit(number + 1, stretch, finished)
            else:
                self._last = stretch, finished

    async def commit_last(self) -> None:
        """Commit the stretch that `run` ended with. Raises IllegalChange, Conflict."""
        if self._last is not None:
            await self._commit(len(self._plan.stretches), *self._last)

    async def _transcribe(self, engine: EngineProcess, stretch: Stretch) -> Finished:
        async with self._aborting_when_stopped(engine):
            try:
                return await self._listen(engine, stretch)
            except EngineFailure as error:
                if self._stop.is_set():  # it did not obey and was killed for it
                    raise Stopped from error
                raise

    async def _listen(self, engine: EngineProcess, stretch: Stretch) -> Finished:
        async for reply in engine.transcribe(self._order(stretch)):
            match reply:
                case SegmentFound():
                    await self._publish(reply, stretch)
                case ProgressMade(fraction=fraction):
                    await self._tell_progress(stretch, fraction)
                case Finished(engine_secs=secs, idle_secs=idle):
                    self.calls.append(reply)
                    log.debug("engine: %.4f s in whisper_full after %.4f s of idling", secs, idle or 0.0)
                    return reply
                case Aborted():
                    raise Stopped
                case Rejected(reason=reason, fatal=fatal):
                    if fatal:
                        raise await engine.condemn(reason)
                    raise EngineRefused(reason)
                case other:
                    raise EngineRefused(f"unexpected {type(other).__name__}")
        raise EngineRefused("the engine ended without an answer")

    @asynccontextmanager
    async def _aborting_when_stopped(self, engine: EngineProcess) -> AsyncIterator[None]:
        aborting = asyncio.create_task(self._abort_when_stopped(engine), name=f"stop {self._record.id}")
        try:
            yield
        finally:
            aborting.cancel()
            await asyncio.wait([aborting])

    async def _abort_when_stopped(self, engine: EngineProcess) -> None:
        await self._stop.wait()
        await engine.abort()
        await asyncio.sleep(self._grace_secs)
        engine.kill()  # it did not obey; whoever listens to it sees its death

    def _order(self, stretch: Stretch) -> Transcribe:
        options = self._record.request.options
        if options.language == AUTO and self._record.language is not None:
            options = msgspec.structs.replace(options, language=self._record.language)
        return Transcribe(
            call=0,
            pcm_path=str(self._plan.pcm),
            spans=stretch,
            options=options,
            prompt=prompt(options.prompt, "".join(s.text for s in self._segments[-20:])),
        )

    async def _publish(self, found: SegmentFound, stretch: Stretch) -> None:
        if not found.text.strip():
            return
        segment = Segment(
            index=len(self._segments),
            start=stretches.file_seconds(stretch, found.start, is_end=False),
            end=stretches.file_seconds(stretch, found.end, is_end=True),
            text=found.text,
            words=None if found.words is None else [_in_file(word, stretch) for word in found.words],
        )
        event = SegmentAdded(job_id=self._record.id, at=datetime.now(UTC), segment=segment)
        await self._append(event)
        self._segments.append(segment)

    async def _tell_progress(self, stretch: Stretch, fraction: float) -> None:
        seconds = fraction * stretches.length(stretch) / SAMPLE_RATE
        await self._tell(
            int(100 * stretches.file_seconds(stretch, seconds, is_end=True) / self._plan.duration_secs)
        )

    async def _tell(self, percent: int) -> None:
        """Progress only ever grows, and 100 is said by the end alone."""
        percent = min(percent, 99)
        if percent > self._percent:
            self._percent = percent
            event = Progress(job_id=self._record.id, at=datetime.now(UTC), percent=percent)
            await self._append(event)

    async def _append(self, event: SegmentAdded | Progress) -> None:
        """Behind the last. The engine waits meanwhile, for as long as the broker is away."""
        with self._publishing():
            self._last_seq = await patiently(
                f"job {self._record.id}: publishing", lambda: self._log.append_next(event, self._last_seq)
            )

    async def _commit(self, committed: int, stretch: Stretch, finished: Finished | None) -> None:
        record = self._record
        await self._tell(int(100 * stretch[-1][1] / self._plan.samples))
        change = Committed(
            at=datetime.now(UTC),
            epoch=record.epoch,
            committed=committed,
            progress=self._percent,
            language=record.language or (finished.language if finished else None),
            language_probability=record.language_probability
            or (finished.language_probability if finished else None),
        )
        with self._publishing():
            self._record = await patiently(
                f"job {record.id}: committing", lambda: self._records.change(record.id, change)
            )

    @contextmanager
    def _publishing(self) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.publish_secs += time.monotonic() - begun


def tail(text: str) -> str:
    """The end of a text, from the beginning of a word."""
    if len(text) <= PROMPT_TAIL_CHARS:
        return text
    cut = text[-PROMPT_TAIL_CHARS:]
    return cut[cut.find(" ") :] if " " in cut else cut


def prompt(asked: str, so_far: str) -> str:
    """What goes before a stretch: the user's prompt and the end of the text so far.

    It begins with a space, as OpenAI's own code does it: without one the first word becomes other tokens than whisper
    has ever seen at the beginning of a text.
    """
    text = " ".join(f"{asked}{tail(so_far)}".split())
    return f" {text}" if text else ""


def _in_file(word: Word, stretch: Stretch) -> Word:
    return Word(
        start=stretches.file_seconds(stretch, word.start, is_end=False),
        end=stretches.file_seconds(stretch, word.end, is_end=True),
        text=word.text,
        probability=word.probability,
    )
