"""`Expect: 100-continue`: a client is told to go on when its body is wanted, and a refusal comes instead of that.

hypercorn says `100 Continue` as soon as it has read the headers. Then a client sends all of its audio to a gateway that refuses it.
ASGI has the rule that other servers follow: the first receive() of the application asks for the body.
"""

from collections.abc import Awaitable, Callable

import h11
from hypercorn.typing import AppWrapper, ASGIReceiveCallable, ASGIReceiveEvent, ASGISendCallable, Scope

EXTENSION = "whisper.continue"
"""In the extensions of a scope: `is_waiting` tells whether the client still waits to be told."""


class PatientConnection(h11.Connection):
    """Does not tell hypercorn of clients that wait; `client_is_waiting_for_100_continue` still does."""

    @property
    def they_are_waiting_for_100_continue(self) -> bool:
        """See above."""
        return False


class Inviting:
    """The application of one connection, whose first receive() tells a waiting client to go on."""

    def __init__(
        self, app: AppWrapper, is_waiting: Callable[[], bool], invite: Callable[[], Awaitable[None]]
    ) -> None:
        self._app, self._is_waiting, self._invite = app, is_waiting, invite

    async def __call__(
        self,
        scope: Scope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        sync_spawn: Callable[..., object],
        call_soon: Callable[..., object],
    ) -> None:
        """Serve one request. The parameters are those of hypercorn."""

        async def asked() -> ASGIReceiveEvent:
            if self._is_waiting():
                await self._invite()
            return await receive()

        if scope["type"] == "http":
            scope["extensions"][EXTENSION] = {"is_waiting": self._is_waiting}
        await self._app(scope, asked, send, sync_spawn, call_soon)
