"""`python -m tests.attacks.servers.serve uvicorn|granian|gunicorn PORT [PORT]`: a server process of the suite."""

from __future__ import annotations

import asyncio
import logging
import sys


def _uvicorn(ports: list[int]) -> None:
    """Both of its parsers in one process."""
    import uvicorn
    from tests.attacks.servers.asgi_apps import app

    async def serve() -> None:
        await asyncio.gather(*(
            uvicorn.Server(
                uvicorn.Config(app, "127.0.0.1", port, http=http, lifespan="off", log_level="critical", loop="asyncio")
            ).serve()
            for http, port in zip(("h11", "httptools"), ports, strict=True)
        ))  # fmt: skip

    asyncio.run(serve())


def _granian(ports: list[int]) -> None:
    from granian.constants import Interfaces
    from granian.server import Server

    target = "tests.attacks.servers.asgi_apps:app"
    Server(target, "127.0.0.1", ports[0], interface=Interfaces.ASGI, log_enabled=False).serve()


def _gunicorn(ports: list[int]) -> None:
    from gunicorn.app.wsgiapp import run

    sys.argv = [
        "gunicorn", "tests.attacks.servers.wsgi_apps:app", "--bind", f"127.0.0.1:{ports[0]}", "--workers", "1",
        "--worker-class", "gthread", "--threads", "4", "--log-level", "critical", "--no-control-socket",
    ]  # fmt: skip
    run()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    {"uvicorn": _uvicorn, "granian": _granian, "gunicorn": _gunicorn}[sys.argv[1]](
        list(map(int, sys.argv[2:]))
    )
