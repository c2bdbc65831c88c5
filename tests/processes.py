"""What tests that start real processes share. A free port: `provider_federation.demo.processes.free_ports`."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable


def wait_until_up(process: subprocess.Popen[bytes], ask: Callable[[], object], seconds: float = 60) -> None:
    """Call `ask` until it raises no OSError; AssertionError when the process ends before that, or takes too long."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while process.poll() is None and time.monotonic() < deadline:
        try:
            ask()
        except OSError:
            pause.wait(0.02)
        else:
            return
    raise AssertionError(f"{process.args} did not come up")


def wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    """Until somebody listens on that port of the loopback."""
    wait_until_up(process, lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close())
