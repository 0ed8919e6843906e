"""HTTP over one connection: uvicorn's h11 protocol, and an end to clients that never finish their headers.

uvicorn times idle connections between two requests, not the time from a connection, or from the first byte of a
request, to the end of its headers: so a client that sends a byte now and then would hold its connection for good, and a
few hundred of them all that the process may open.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def prompt(seconds: float) -> type[asyncio.Protocol]:
    """A protocol class for ``uvicorn.Config(http=...)`` that gives every request so long for its headers."""

    class Prompt(H11Protocol):
        _end: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._time()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._time()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._end is not None:
                self._end.cancel()

        def _time(self) -> None:
            """Start the clock while headers are awaited, unless it runs; stop it when they are there."""
            awaited = self.cycle is None or self.cycle.response_complete
            if not awaited and self._end is not None:
                self._end.cancel()
                self._end = None
            elif awaited and self._end is None and not self.transport.is_closing():
                self._end = self.loop.call_later(seconds, self.transport.close)

    return Prompt
