"""`python -m tests.attacks.threats_a.threats_worker PORT FILE`: one worker process; its memory is the SQLite FILE."""

from __future__ import annotations

import sys

import uvicorn
from tests.attacks.threats_a.world import KEYS, NOW, POLICY, RESPONSE, Echo

from provider_federation.adapters.asgi import FederationMiddleware
from provider_federation.adapters.replay import SqliteReplayStore
from provider_federation.protocol import Keyring

if __name__ == "__main__":
    app = FederationMiddleware(
        Echo(),
        keyring=Keyring(KEYS),
        policy=POLICY,
        replay=SqliteReplayStore(sys.argv[2]),
        response_key=RESPONSE,
        now=lambda: NOW,
    )
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), lifespan="off", log_level="critical")
