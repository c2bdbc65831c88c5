"""A client instance as small as it can be, over real HTTP with real signatures, that can be told to misbehave."""

from __future__ import annotations

import json
import secrets
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from provider_federation.kit import clock
from provider_federation.protocol import Key, Keyring, MemoryReplayStore, Policy, Refused, Request, verify

Answer = tuple[int, dict[str, Any]]


@dataclass
class FakeInstance:
    """`effects` counts what really happened; a replayed answer is none. `faults` maps a path to the answer given instead.

    While `gate` is closed, writes happen but are not answered; `page` is how many changes one page holds.
    """

    name: str
    epoch: str = "epoch-1"
    currency: str = "usd"
    leads: list[int] = field(default_factory=lambda: [10_000, 10_000])
    page: int = 200
    invoices: dict[str, dict[str, Any]] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)
    effects: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    replies: dict[str, Answer] = field(default_factory=dict)
    faults: dict[str, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.secret = secrets.token_urlsafe(32)
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.RLock()
        self.keyring = Keyring([Key(f"key-{self.name}", "sha256", secret=self.secret.encode())])
        self.replay = MemoryReplayStore()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.server.block_on_close = False
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def stop(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()

    # what the business does

    def add_invoice(self, cents: int, status: str = "draft", **more: Any) -> str:
        with self.lock:
            number = len(self.invoices) + 1
            now = clock.now().isoformat()
            self.invoices[str(number)] = {
                "id": str(number),
                "number": f"{self.name}-{number:04}",
                "customer": {"id": "1", "name": "A customer", "email": "c@example.com"},
                "periodFrom": "2026-01-01T00:00:00Z",
                "periodTo": "2026-02-01T00:00:00Z",
                "status": status,
                "subtotalCents": cents,
                "taxCents": 0,
                "totalCents": cents,
                "amountPaidCents": cents if status == "paid" else 0,
                "currency": self.currency,
                "createdAt": now,
                "updatedAt": now,
                "sentAt": None,
                "paidAt": None,
                "stripeInvoiceId": None,
                "hostedInvoiceUrl": None,
                **more,
            }
            self.changed(str(number))
            return str(number)

    def change_invoice(self, invoice_id: str, **more: Any) -> None:
        with self.lock:
            self.invoices[invoice_id].update(more, updatedAt=clock.now().isoformat())
            self.changed(invoice_id)

    def changed(self, invoice_id: str) -> None:
        seq = len(self.changes) + 1
        self.changes.append(
            {"seq": seq, "type": "invoice.updated", "at": clock.now().isoformat(), "id": invoice_id}
        )

    # what it answers

    def answer(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
        parts = urlsplit(target)
        self.requests[parts.path] += 1
        if parts.path in self.faults:
            return self.faults[parts.path]
        signed = any(name.lower() == "x-provider-signature" for name, _ in headers)
        if signed:
            authority = f"127.0.0.1:{self.server.server_port}"
            try:
                verify(
                    Request(method, target, authority, headers, body),
                    self.keyring,
                    Policy(accept=("sha256",)),
                    now=clock.timestamp(),
                    replay=self.replay,
                )
            except Refused as refused:
                return refused.status, {"ok": False, "error": str(refused), "reason": refused.code}
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if method == "GET":
            return self.read(parts.path, query, signed=signed)
        return self.write(parts.path, json.loads(body or b"{}"), dict(headers).get("Idempotency-Key", ""))

    def read(self, path: str, query: dict[str, str], *, signed: bool) -> Answer:
        if path == "/api/system/federation.status":
            more = (
                {"serverTime": clock.now().isoformat(), "version": "1", "capabilities": ["billing"]}
                if signed
                else {}
            )
            return 200, {"ok": True, "enabled": True, "mode": "sha256", **more}
        if path == "/api/billing/preview":
            return 200, {
                "ok": True,
                "count": len(self.leads),
                "totalCents": sum(self.leads),
                "currency": self.currency,
                "lines": [],
            }
        if path == "/api/billing/list":
            items = [
                item
                for item in reversed(self.invoices.values())
                if item["status"] == query.get("status", item["status"])
            ]
            return 200, {"ok": True, "items": items, "nextCursor": None}
        if path == "/api/federation/changes":
            return self.feed(query.get("cursor", ""))
        return 404, {"ok": False, "error": "nothing here", "reason": "not_found"}

    def feed(self, cursor: str) -> Answer:
        epoch, _, at = cursor.rpartition(":") if cursor else (self.epoch, "", "0")
        if epoch != self.epoch or int(at) > len(self.changes):
            return 409, {"ok": False, "error": "unknown cursor", "reason": "cursor_unknown"}
        with self.lock:
            chosen = self.changes[int(at) : int(at) + self.page]
            end = int(at) + len(chosen)
            items = [{**change, "invoice": self.invoices[change["id"]]} for change in chosen]
        return 200, {
            "ok": True,
            "epoch": self.epoch,
            "items": items,
            "nextCursor": f"{self.epoch}:{end}",
            "hasMore": end < len(self.changes),
        }

    def write(self, path: str, body: dict[str, Any], key: str) -> Answer:
        with self.lock:
            if key in self.replies:
                return self.replies[key]
            self.replies[key] = answer = self.do(path, body)
        self.gate.wait(30)
        return answer

    def do(self, path: str, body: dict[str, Any]) -> Answer:
        if path == "/api/billing/invoices.create":
            self.effects["draft"] += 1
            made = [self.add_invoice(cents) for cents in self.leads]
            self.leads = []
            invoices = [self.invoices[one] for one in made]
            return 200, {
                "ok": True,
                "reused": False,
                "invoice": invoices[0] if invoices else None,
                "invoices": invoices,
            }
        self.effects[f"send {body['id']}"] += 1
        invoice = self.invoices.get(body["id"])
        if invoice is None:
            return 404, {"ok": False, "error": "There is no such invoice.", "reason": "not_found"}
        url = f"https://pay.example/{self.name}/{body['id']}"
        self.change_invoice(
            body["id"], status="open", hostedInvoiceUrl=url, stripeInvoiceId=f"in_{body['id']}"
        )
        return 200, {
            "ok": True,
            "stripeInvoice": {
                "id": f"in_{body['id']}",
                "number": "N",
                "status": "open",
                "amountDue": 1,
                "hostedInvoiceUrl": url,
            },
        }


def _handler(instance: FakeInstance) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply(b"")

        def do_POST(self) -> None:
            self.reply(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

        def reply(self, body: bytes) -> None:
            status, data = instance.answer(self.command, self.path, list(self.headers.items()), body)
            content = json.dumps(data).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = (
                    True  # the portal died while we were at it; that is what some tests are about
                )

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """The tests' output is theirs."""

    return Handler
