"""The portal and a client instance as real processes on databases of their own, for the tests of bad input."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import secrets
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from tests.attacks.bad_input_wire import Answer, Wire

from provider_federation.demo.processes import Child, Supervisor, free_ports, run_to_end
from provider_federation.kit import clock
from provider_federation.money import PLANS
from provider_federation.protocol import Key, Request, sign
from provider_federation.stripe_account import StripeAccount, ensure_price

Who = Literal["full", "reader", "nobody"]
WEBHOOK_SECRET = "whsec_" + "badinput0tests0" * 2
_DEVELOPMENT = {"PROVIDER_FEDERATION_ENV": "development", "PYTHONWARNINGS": "default"}
# Rows that may change although nothing was written: sessions, rate limits, used signatures.
_RESTLESS = {
    "django_session",
    "portal_cache",
    "provider_federation_replay",
    "provider_federation_replay_mark",
}
_NOTED = "last_used_at"  # of a token or key: noted now and then, whatever was asked
_SPREAD = itertools.count()


@dataclass
class Service:
    """One running side. `send` goes out as "full" (may do everything), "reader" (may only read) or "nobody"."""

    side: str
    port: int
    database: str  # a postgresql:// address, or the path of a SQLite file
    log: Path
    facts: dict[str, str] = field(default_factory=dict)
    peer: Service | None = None

    def __post_init__(self) -> None:
        self.wire = Wire(self.port)
        self._looking: psycopg.Connection | None = None
        self._seen: tuple[int, dict[str, str]] | None = None

    def close(self) -> None:
        self.wire.close()
        if self._looking is not None:
            self._looking.close()

    def credentials(self, who: Who, method: str, target: str) -> dict[str, str]:
        """The headers that prove who is calling; each side has its own way."""
        raise AssertionError(f"{self.side} has no way to prove who calls {method} {target} as {who}")

    def send(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        who: Who = "full",
    ) -> Answer:
        proof = self.credentials(who, method, target)
        return self.wire.send(method, target, {**proof, **(headers or {})}, body)

    def ask(self, method: str, target: str, value: Any = None) -> Any:
        """A good request; its answer's JSON."""
        body = b"" if value is None else json.dumps(value).encode()
        answer = self.send(method, target, body, {"Content-Type": "application/json"} if body else {})
        assert answer.status < 300, (method, target, answer)
        return answer.json

    def state(self) -> dict[str, str]:
        """A digest of every table's rows."""
        if "://" not in self.database:
            found = _sqlite_state(self.database)
        else:
            if self._looking is None:
                self._looking = psycopg.connect(self.database, autocommit=True)
            found = _postgres_state(self._looking)
        self._seen = (self.wire.sent, found)
        return found

    def state_before(self) -> dict[str, str]:
        """The same before a test: as it was last seen, unless something was sent since."""
        if self._seen is not None and self._seen[0] == self.wire.sent:
            return self._seen[1]
        return self.state()


class PortalService(Service):
    def credentials(self, who: Who, method: str, target: str) -> dict[str, str]:  # noqa: ARG002  a token covers no request
        return {} if who == "nobody" else {"Authorization": f"Bearer {self.facts[who]}"}


class InstanceService(Service):
    def credentials(self, who: Who, method: str, target: str) -> dict[str, str]:
        """Signed over the raw target."""
        if who == "nobody":
            return {}
        scope = "provider" if who == "full" else "read"
        key = Key(who, "sha256", secret=self.facts[who].encode(), scope=scope)
        # The legacy scheme tells two equal writes apart by their millisecond only.
        now = clock.timestamp() + next(_SPREAD) % 100_000 / 1000
        return dict(
            sign(Request(method, target, f"127.0.0.1:{self.port}", [], b""), key, now=now, scope=scope)
        )


def stripe_signature(body: bytes) -> str:
    """The header that Stripe would send with this body."""
    at = int(clock.timestamp())
    digest = hmac.new(WEBHOOK_SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


@contextmanager
def running(side: str, folder: Path, server_url: str) -> Iterator[Service]:
    """`side` is "portal", "instance" (SQLite) or "instance-postgres"; everything it needs runs with it."""
    supervisor = Supervisor(lambda _line: None)
    try:
        stripe = _stripe(supervisor, folder)
        instance = _instance(supervisor, folder, stripe, server_url if side == "instance-postgres" else "")
        with closing(instance):
            if side != "portal":
                yield instance
                return
            portal = _portal(supervisor, folder, stripe, server_url, instance)
            with closing(portal):
                yield portal
    finally:
        supervisor.stop()


def _start(
    supervisor: Supervisor,
    name: str,
    arguments: list[str],
    environment: dict[str, str],
    folder: Path,
    ready: str,
) -> Path:
    log = folder / f"{name}.log"
    child = supervisor.start(Child(name, arguments, environment, log, ready))
    supervisor.wait_ready(child)
    return log


def _stripe(supervisor: Supervisor, folder: Path) -> str:
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    _start(
        supervisor, "stripe", ["stripe-sim", "--port", str(port)], _DEVELOPMENT, folder, f"{url}/_sim/state"
    )
    return url


def _instance(supervisor: Supervisor, folder: Path, stripe: str, server_url: str) -> Service:
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    database = new_database(server_url) if server_url else ""
    keys = {"full": secrets.token_urlsafe(32), "reader": secrets.token_urlsafe(32)}
    told = {
        name: {"secret": keys[name], "algorithm": "sha256", "scope": scope}
        for name, scope in (("full", "provider"), ("reader", "read"))
    }
    environment = {
        **_DEVELOPMENT,
        "DATABASE_URL": database, "INSTANCE_DATA_DIR": str(folder / "acme"), "INSTANCE_BASE_URL": url,
        "INSTANCE_NAME": "acme", "INSTANCE_ORG_ID": "org_acme", "INSTANCE_TITLE": "Acme",
        "PROVIDER_FEDERATION_ENABLED": "1", "PROVIDER_FEDERATION_SIG_SHA256": "1", "PROVIDER_KEYS_JSON": json.dumps(told),
        "STRIPE_API_BASE": stripe, "STRIPE_SECRET_KEY": "sk_test_acme", "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
    }  # fmt: skip
    run_to_end("acme", ["instance", "migrate"], environment)
    run_to_end("acme", ["instance", "seed", "--leads", "40", "--months", "3"], environment)
    log = _start(
        supervisor,
        "acme",
        ["instance", "serve", "--port", str(port)],
        environment,
        folder,
        f"{url}/health/ready",
    )
    service = InstanceService(
        "instance", port, database or str(folder / "acme" / "instance.sqlite3"), log, keys
    )
    drafts = service.ask("POST", "/api/billing/invoices.create?range=d30")["invoices"]
    lead = service.ask("GET", "/api/billing/preview?range=all")["lines"][0]
    service.facts |= {"invoice": drafts[0]["id"], "lead": lead["leadId"], "customer": lead["customerId"]}
    return service


def _portal(supervisor: Supervisor, folder: Path, stripe: str, server_url: str, instance: Service) -> Service:
    [port] = free_ports(1)
    database = new_database(server_url)
    account = StripeAccount("sk_test_provider", api_base=stripe)
    prices = {
        code: ensure_price(account, lookup_key=code, product_name=code, unit_amount=plan.fee_cents)
        for code, plan in PLANS.items()
    }
    environment = {
        **_DEVELOPMENT,
        "DJANGO_SETTINGS_MODULE": "provider_federation.portal.settings",
        "DATABASE_URL": database, "PORTAL_DATA_DIR": str(folder / "portal"), "PORTAL_BASE_URL": f"http://127.0.0.1:{port}",
        "PORTAL_ALLOW_PRIVATE_HOSTS": "127.0.0.1", "STRIPE_API_BASE": stripe,
        "PROVIDER_STRIPE_SECRET_KEY": "sk_test_provider", "PROVIDER_STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        **{f"PROVIDER_STRIPE_{code}_PRICE_ID": price.id for code, price in prices.items()},
    }  # fmt: skip
    run_to_end("portal", ["portal", "migrate"], environment)
    tokens = {
        who: run_to_end("portal", ["portal", "token", "make", who, "--role", role], environment).split()[-1]
        for who, role in (("full", "admin"), ("reader", "support"))
    }
    url = f"http://127.0.0.1:{port}"
    log = _start(
        supervisor,
        "portal",
        ["portal", "serve", "--port", str(port)],
        environment,
        folder,
        f"{url}/health/ready",
    )
    service = PortalService("portal", port, database, log, tokens, instance)
    _furnish(service, instance)
    return service


def _furnish(portal: Service, instance: Service) -> None:
    """Two clients (one with a subscription, a run and a usage invoice), as an operator would make them."""
    for name, base, secret in (
        ("acme", f"http://127.0.0.1:{instance.port}", instance.facts["full"]),
        ("other", "http://127.0.0.1:4999", "another-secret-of-some-length-0123"),
    ):
        body = {
            "name": name, "clientOrgId": f"org_{name}", "baseUrl": base, "billingEmail": f"{name}@example.com",
            "key": {"id": "full", "algorithm": "sha256", "secret": secret},
        }  # fmt: skip
        portal.facts[name] = portal.ask("POST", "/api/provider/instances", body)["instance"]["id"]
    run = portal.ask(
        "POST", "/api/provider/fleet", {"action": "preview", "instanceIds": [portal.facts["acme"]]}
    )
    portal.facts["run"] = run["run"]["id"]
    subscribed = portal.ask(
        "POST", "/api/provider/billing/subscriptions", {"clientOrgId": "org_acme", "planId": "PRO"}
    )
    portal.facts["subscription"] = subscribed["subscription"]["id"]
    owed = portal.ask("GET", "/api/provider/billing/receivables")
    portal.facts["receivable"] = owed["items"][0]["stripeInvoiceId"]
    usage = portal.ask("POST", "/api/provider/billing/revenue", last_month("org_acme"))
    portal.facts["usage_invoice"] = usage["invoice"]["id"]


def last_month(org: str) -> dict[str, str]:
    """A body of POST /api/provider/billing/revenue for the last whole month."""
    this = clock.now().replace(day=1)
    first = (
        this.replace(year=this.year - 1, month=12) if this.month == 1 else this.replace(month=this.month - 1)
    )
    return {"clientOrgId": org, "periodStart": f"{first:%Y-%m-%d}", "periodEnd": f"{this:%Y-%m-%dT00:00:00Z}"}


def new_database(server_url: str) -> str:
    """An empty database on the test's PostgreSQL; it ends with that server."""
    name = f"bad_input_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return urlsplit(server_url)._replace(path=f"/{name}").geturl()


def _postgres_state(connection: psycopg.Connection) -> dict[str, str]:
    found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    tables = sorted({row[0] for row in found} - _RESTLESS)
    one = sql.SQL(
        "SELECT {name}, md5(coalesce(string_agg(row, ' ' ORDER BY row), '')) "
        "FROM (SELECT (to_jsonb(t) - {noted})::text AS row FROM {table} t) AS rows"
    )
    noted = sql.Literal(_NOTED)
    parts = [
        one.format(name=sql.Literal(table), table=sql.Identifier(table), noted=noted) for table in tables
    ]
    # Prepared once for the connection: to plan it takes longer than to run it.
    return dict(connection.execute(sql.SQL(" UNION ALL ").join(parts), prepare=True).fetchall())


def _sqlite_state(path: str) -> dict[str, str]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        tables = sorted({row[0] for row in found} - _RESTLESS)
        rows = {table: _sqlite_rows(connection, table) for table in tables}
    finally:
        connection.close()
    return {table: hashlib.sha256("\n".join(found).encode()).hexdigest() for table, found in rows.items()}


def _sqlite_rows(connection: sqlite3.Connection, table: str) -> list[str]:
    found = connection.execute(f'SELECT * FROM "{table}"')
    kept = [at for at, (name, *_) in enumerate(found.description) if name != _NOTED]
    return sorted(repr([row[at] for at in kept]) for row in found)
