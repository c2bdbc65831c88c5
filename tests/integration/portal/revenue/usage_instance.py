"""A client instance that answers for its usage over real HTTP, and can be told to misbehave. Without Django."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from provider_federation.kit import clock
from provider_federation.kit.hash_chain import digest


@dataclass
class UsageInstance:
    """Answers `GET /api/provider/usage` for the months it is told of; can be told to misbehave."""

    org: str
    currency: str = "usd"
    months: dict[str, dict[str, Any]] = field(default_factory=dict)
    page: int = 2
    faults: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    requests: int = 0
    after_a_page: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def uses(
        self, month: str, leads: int, ai: str = "0", calls: int = 1, first: int = 1, **more: Any
    ) -> None:
        start = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
        items = [
            {
                "leadId": f"lead-{month}-{number}",
                "leadPublicId": f"L-{month}-{number}",
                "convertedAt": (start + timedelta(hours=number)).isoformat(),
            }
            for number in range(first, first + leads)
        ]
        self.months[month] = {"items": [proven(item) for item in items], "ai": ai, "calls": calls, **more}

    def answer(self, target: str) -> tuple[int, dict[str, Any]]:
        self.requests += 1
        self.gate.wait(20)
        if self.faults:
            return self.faults.pop(0)
        query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        label, at = query["period"], int(query.get("cursor") or 0)
        if int(query.get("limit", 100)) > 200:
            return 400, {"ok": False, "error": "limit: at most 200", "reason": "invalid_field"}
        used = self.months.get(label, {"items": [], "ai": "0", "calls": 0})
        start = datetime.fromisoformat(f"{label}-01T00:00:00+00:00")
        end = (start + timedelta(days=32)).replace(day=1)
        items = used["items"][at : at + self.page]
        more = at + self.page < len(used["items"])
        changes, self.after_a_page = self.after_a_page, None
        answer = {
            "ok": True,
            "clientOrgId": used.get("org", self.org),
            "currency": self.currency,
            "period": {
                "label": label,
                "start": start.isoformat(),
                "end": end.isoformat(),
                "closed": end <= clock.now(),
            },
            "leads": {
                "count": used.get("count", len(used["items"])),
                "items": items,
                "nextCursor": str(at + self.page) if more else None,
            },
            "ai": {
                "cost": used["ai"],
                "currency": self.currency,
                "calls": used["calls"],
                "capCents": 999_999,
            },
            "limits": {
                name: {"used": used.get(name, 0), "limit": 100} for name in ("leads", "users", "aiCredits")
            },
        }
        if changes:
            changes()
        return 200, answer

    def take(self, target: str, body: Any, key: str) -> tuple[int, dict[str, Any]]:
        """A write. Nothing is taken here."""
        del target, body, key
        return 404, {"ok": False, "error": "nothing here", "reason": "not_found"}


def proven(lead: dict[str, str]) -> dict[str, str]:
    """The lead with the evidence that an honest instance states."""
    facts = {name: lead[name] for name in ("leadId", "leadPublicId", "convertedAt")}
    return {**facts, "evidence": digest({**facts, "source": "system"})}


def _handler(instance: UsageInstance) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply(instance.answer(self.path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.reply(instance.take(self.path, body, self.headers["Idempotency-Key"]))

        def reply(self, answer: tuple[int, dict[str, Any]]) -> None:
            status, data = answer
            content = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
            del format, args

    return Handler
