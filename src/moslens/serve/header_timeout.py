"""A time limit for the headers of a request, which uvicorn does not have.

uvicorn closes a connection that is idle between two requests, but it waits for ever for headers that have begun. A
client that sends a byte now and then would keep its connection, and a few hundred such clients would take all the
connections that the process may open.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def h11_with_header_timeout(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's h11 protocol, for ``uvicorn.Config(http=...)``, with ``seconds`` for the headers of every request."""

    class HeaderTimeoutProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._set_timer()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._set_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._timer is not None:
                self._timer.cancel()

        def _set_timer(self) -> None:
            """Start the timer when the connection waits for headers; cancel it when they are complete."""
            waiting = self.cycle is None or self.cycle.response_complete
            if not waiting and self._timer is not None:
                self._timer.cancel()
                self._timer = None
            elif waiting and self._timer is None and not self.transport.is_closing():
                self._timer = self.loop.call_later(seconds, self.transport.close)

    return HeaderTimeoutProtocol
