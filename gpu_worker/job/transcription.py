"""One job on the engine, stretch by stretch: each segment is published when it is found, and each stretch is committed.

A published segment is final, because the event log is the transcript. A worker that takes the job over after a crash begins
behind the last published segment of the first uncommitted stretch.
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
from gpu_worker.audio.plan import Plan
from gpu_worker.audio.stretches import Stretch
from gpu_worker.engine.failure import EngineFailure
from gpu_worker.engine.process import EngineProcess
from gpu_worker.engine.protocol import Aborted, Finished, ProgressMade, Rejected, SegmentFound, Transcribe
from gpu_worker.job.claim import Claim
from gpu_worker.job.storage import JobStorage
from gpu_worker.model.model import Stopped
from gpu_worker.pcm import SAMPLE_RATE
from schemas.events import Progress, SegmentAdded
from schemas.job_lifecycle import Committed
from schemas.jobs import Segment, Word
from schemas.languages import AUTO

log = logging.getLogger(__name__)

PROMPT_TAIL_CHARS = 200
"""Characters of the text so far that go before the next stretch: about what fits into the engine's context of 64 tokens."""
PROMPT_SEGMENTS = 20
"""The last segments that these characters are taken from."""


class EngineRefused(Exception):
    """The engine refuses this job's audio; the sentence says why."""


class Transcription:
    """One run of a claimed job. It survives the loss of an engine, and goes on with the next one."""

    def __init__(
        self, claim: Claim, plan: Plan, storage: JobStorage, stop: asyncio.Event, abort_grace_secs: float
    ) -> None:
        """`stop` is set when the job must give up. An engine that ignores an abort so long is killed."""
        if claim.record is None:
            raise RuntimeError("the job is not claimed")
        self._record = record = claim.record
        self._plan, self._records, self._log = plan, storage.records, storage.events
        self._stop, self._grace_secs = stop, abort_grace_secs
        self._segments = list(claim.segments)
        self._last_seq = claim.last_seq
        self._percent = record.progress
        self._last: tuple[Stretch, Finished | None] | None = None
        self.calls: list[Finished] = []
        """The last reply of each call of the engine."""
        self.publish_secs = 0.0
        """Seconds of waiting until segments and commits were stored."""

    async def run(self, engine: EngineProcess) -> None:
        """Transcribe all stretches that are not committed yet, and commit each but the last, whose commit needs no engine.

        Where the engine is lost, this may be called again with another one: it goes on behind the last segment. While
        nats-server is away it waits. Raises Stopped, EngineRefused, EngineFailure; IllegalChange or Conflict where the job
        is not ours any more.
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
        """Commit the last stretch. Raises IllegalChange, Conflict."""
        if self._last is not None:
            await self._commit(len(self._plan.stretches), *self._last)

    async def _transcribe(self, engine: EngineProcess, stretch: Stretch) -> Finished:
        async with self._aborting_when_stopped(engine):
            try:
                return await self._listen(engine, stretch)
            except EngineFailure as error:
                # It ignored the abort, and was killed for that.
                if self._stop.is_set():
                    raise Stopped from error
                raise

    async def _listen(self, engine: EngineProcess, stretch: Stretch) -> Finished:
        async for reply in engine.transcribe(self._order(stretch)):
            match reply:
                case SegmentFound():
                    await self._publish(reply, stretch)
                case ProgressMade(fraction=fraction):
                    await self._publish_progress_within(stretch, fraction)
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
            # Not run_in_background: an error of the abort is the engine's death, which the reader of its replies reports.
            aborting.cancel()
            await asyncio.wait([aborting])

    async def _abort_when_stopped(self, engine: EngineProcess) -> None:
        await self._stop.wait()
        await engine.abort()
        await asyncio.sleep(self._grace_secs)
        # It ignored the abort. Whoever reads its replies sees its death.
        engine.kill()

    def _order(self, stretch: Stretch) -> Transcribe:
        options = self._record.request.options
        if options.language == AUTO and self._record.language is not None:
            options = msgspec.structs.replace(options, language=self._record.language)
        return Transcribe(
            call=0,
            pcm_path=str(self._plan.pcm),
            spans=stretch,
            options=options,
            prompt=prompt(options.prompt, "".join(s.text for s in self._segments[-PROMPT_SEGMENTS:])),
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

    async def _publish_progress_within(self, stretch: Stretch, fraction: float) -> None:
        seconds = fraction * stretches.length(stretch) / SAMPLE_RATE
        await self._publish_progress(
            int(100 * stretches.file_seconds(stretch, seconds, is_end=True) / self._plan.duration_secs)
        )

    async def _publish_progress(self, percent: int) -> None:
        """Publish the progress where it has grown. 100 is left to the end of the job."""
        percent = min(percent, 99)
        if percent > self._percent:
            self._percent = percent
            event = Progress(job_id=self._record.id, at=datetime.now(UTC), percent=percent)
            await self._append(event)

    async def _append(self, event: SegmentAdded | Progress) -> None:
        """Append an event behind our last one. The engine waits meanwhile, for as long as nats-server is away."""
        with self._publishing():
            self._last_seq = await patiently(
                f"job {self._record.id}: publishing", lambda: self._log.append_next(event, self._last_seq)
            )

    async def _commit(self, committed: int, stretch: Stretch, finished: Finished | None) -> None:
        record = self._record
        await self._publish_progress(int(100 * stretch[-1][1] / self._plan.samples))
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
    """Return the last PROMPT_TAIL_CHARS of a text, from the beginning of a word."""
    if len(text) <= PROMPT_TAIL_CHARS:
        return text
    cut = text[-PROMPT_TAIL_CHARS:]
    return cut[cut.find(" ") :] if " " in cut else cut


def prompt(asked: str, so_far: str) -> str:
    """Return the prompt of a stretch: the user's prompt and the end of the text so far.

    It begins with a space, as in OpenAI's own code: without one the first word is split into tokens that whisper has never
    seen at the beginning of a text.
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
