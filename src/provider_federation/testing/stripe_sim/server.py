"""Running the simulator under uvicorn, on loopback only."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from provider_federation.testing.stripe_sim.app import StripeSim
from provider_federation.testing.stripe_sim.simulator import Hook, Simulator

HOST = "127.0.0.1"
_START_WITHIN = 20.0


@dataclass
class Running:
    """A simulator in a thread of this process. `url` is the address for `StripeClient(base_addresses={"api":
    url})`.
    """

    url: str
    simulator: Simulator
    server: uvicorn.Server
    thread: threading.Thread

    def stop(self) -> None:
        """Shut down and wait until it is."""
        self.server.should_exit = True
        self.thread.join(_START_WITHIN)


def start_in_thread(*, data: Path | None = None, hooks: Sequence[Hook] = (), port: int = 0) -> Running:
    """A simulator that answers when this returns. RuntimeError when it does not come up."""
    listener = _listen(port)
    simulator, server = _build(listener, data, hooks)
    started = threading.Event()
    thread = threading.Thread(
        target=_run, args=(server, listener, started.set), name="stripe-sim", daemon=True
    )
    thread.start()
    if not started.wait(_START_WITHIN):
        raise RuntimeError("the Stripe simulator did not start")
    return Running(simulator.base_url, simulator, server, thread)


def serve(
    *,
    port: int,
    data: Path | None = None,
    hooks: Sequence[Hook] = (),
    announce: Callable[[str], None] = lambda _url: None,
) -> None:
    """Serve until a signal stops it. `announce` gets the address once it answers; OSError when the port is
    taken.
    """
    listener = _listen(port)
    simulator, server = _build(listener, data, hooks)
    _run(server, listener, lambda: announce(simulator.base_url))


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    return listener


def _build(listener: socket.socket, data: Path | None, hooks: Sequence[Hook]) -> tuple[Simulator, _Server]:
    simulator = Simulator(
        base_url=f"http://{HOST}:{listener.getsockname()[1]}", data=data, hooks=tuple(hooks)
    )
    config = uvicorn.Config(
        StripeSim(simulator),
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    return simulator, _Server(config)


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready."""

    ready: Callable[[], None] = staticmethod(lambda: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()


def _run(server: _Server, listener: socket.socket, ready: Callable[[], None]) -> None:
    server.ready = ready
    with listener:
        server.run(sockets=[listener])
