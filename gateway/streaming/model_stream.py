"""The server-sent events of the models of all workers: what is stored behind the client's place, then live, without end."""

import logging
from collections.abc import AsyncIterator

from broker.errors import BrokerError
from broker.event_log import EventLog, Logged
from gateway.operations.model import ModelOperations
from gateway.streaming import sse
from gateway.streaming.fanout import Fanout, StreamOver
from schemas import subjects
from schemas.inputs import Unreadable

log = logging.getLogger(__name__)


class ModelStream:
    """Makes the event streams of `GET /model/events`."""

    def __init__(self, models: ModelOperations, log: EventLog, fanout: Fanout, heartbeat_secs: float) -> None:
        self._models, self._log, self._fanout, self._heartbeat_secs = models, log, fanout, heartbeat_secs

    async def frames(self, after: int) -> AsyncIterator[bytes]:
        """Yield the events behind the stream sequence `after`, then those to come.

        A client that does not resume (`after` is 0) gets the present status first. The stream ends where it cannot go on in
        this gateway, and the client may resume.
        """
        try:
            async with self._fanout.listening(subjects.MODEL_EVENTS_PREFIX) as listener:
                after = await self._log.resume_point(subjects.MODEL_EVENTS_PREFIX, after)
                if after:
                    async for logged in self._log.replay(subjects.ALL_MODEL_EVENTS, after):
                        after = logged.seq
                        if (frame := _frame(logged)) is not None:
                            yield frame
                else:
                    yield sse.model_status(await self._models.nearest())
                while True:
                    live = await listener.next(self._heartbeat_secs)
                    if live is None:
                        yield sse.HEARTBEAT
                    elif live.seq > after and (frame := _frame(live)) is not None:
                        yield frame
        except StreamOver:
            return
        except BrokerError as error:
            log.info("a stream of model events is cut, its client may resume: %s", error)


def _frame(logged: Logged) -> bytes | None:
    """Return the frame of an event, or None where clients are not told of it."""
    try:
        return sse.model_event(logged.body, logged.seq)
    except Unreadable as error:
        log.warning("event %d on %s cannot be read and is passed over: %s", logged.seq, logged.subject, error)
        return None
