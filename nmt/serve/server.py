"""The server: a socket, uvicorn, and a stop that answers what has been asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from nmt.errors import RunError
from nmt.runtime.signals import STOP
from nmt.serve.limits import Limits


class TimedProtocol(H11Protocol):
    """HTTP whose requests must have arrived within ``reading`` seconds, headers included.

    uvicorn limits the time between requests alone, so that slow headers would hold a connection for ever.
    """

    reading = 10.0

    def connection_made(self, transport: Any) -> None:
        self.late: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.late is not None:
            self.late.cancel()
        super().connection_lost(exc)

    def _expect(self) -> None:
        """Start the clock where headers are incomplete, and stop it where they are not."""
        waiting = self.conn.their_state is h11.IDLE
        if not waiting and self.late is not None:
            self.late.cancel()
            self.late = None
        elif waiting and self.late is None:
            self.late = self.loop.call_later(self.reading, self._end)

    def _end(self) -> None:
        self.late = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn with the signals of ``nmt``: at the first, requests that have been read are answered; the second ends.

    uvicorn raises a signal again when it has stopped; here, a stop that was asked for is no failure.
    """

    should_exit: bool
    force_exit: bool

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in STOP:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    asyncio.get_running_loop().add_signal_handler(number, self._stop)
        await super().startup(sockets)

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """
    Raises:
        RunError: the address cannot be used.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError, OverflowError) as error:
        number = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
        reason = os.strerror(number) if number else getattr(error, "strerror", None) or error
        raise RunError(f"{host}, port {port}: cannot listen there: {reason}; choose --host and --port") from None


def address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def new_server(app: Any, limits: Limits) -> Server:
    protocol = type("Protocol", (TimedProtocol,), {"reading": limits.reading})
    return Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http=protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=limits.connections,
            backlog=1024,
            timeout_graceful_shutdown=round(limits.seconds + limits.reading),
        )
    )
