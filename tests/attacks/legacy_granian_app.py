"""The echo app behind the middleware as a module, for granian; `python -m tests.attacks.legacy_granian_app PORT` serves it."""

from __future__ import annotations

import sys

from granian.constants import Interfaces
from granian.server import Server
from tests.attacks.legacy_wire import KEY, NOW, READER, Echo

from provider_federation.adapters.asgi import FederationMiddleware
from provider_federation.protocol import Keyring, MemoryReplayStore, Policy

app = FederationMiddleware(
    Echo(),
    keyring=Keyring([KEY, READER]),
    policy=Policy(accept=("sha256",), max_body=100_000),
    replay=MemoryReplayStore(),
    now=lambda: NOW,
)

if __name__ == "__main__":
    Server(
        "tests.attacks.legacy_granian_app:app",
        "127.0.0.1",
        int(sys.argv[1]),
        interface=Interfaces.ASGI,
        log_enabled=False,
    ).serve()
