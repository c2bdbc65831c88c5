"""Who the bench's billing run is measured beside, each in a process of its own: see bench/billing.py.

`instances`: one process that answers `GET /api/provider/usage` for whichever client the key id names.
`bare URL KEY THREADS CLIENTS`: a loop of the same four calls through the same StripeAccount, with the same parameters, and
nothing else: no journal, no ledger, no usage. It makes its customers, then takes numbers of clients from its input.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, urlsplit

from provider_federation.kit.hash_chain import digest
from provider_federation.stripe_account import InvoiceOrder, OrderCustomer, OrderLine, StripeAccount

LEADS, AI = 3, "7.5"


def leads(org: str, month: str) -> list[dict[str, str]]:
    """The converted leads of one client's month, each with its evidence."""
    start = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
    bare = [
        {
            "leadId": f"{org}-{month}-{n}",
            "leadPublicId": f"L-{month}-{n}",
            "convertedAt": (start + timedelta(days=n)).isoformat(),
        }
        for n in range(LEADS)
    ]
    return [{**one, "evidence": digest({**one, "source": "system"})} for one in bare]


@lru_cache(maxsize=100_000)
def _answer(org: str, month: str) -> bytes:
    items = leads(org, month)
    start = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
    period = {"label": month, "start": start.isoformat(), "end": after(start).isoformat(), "closed": True}
    usage = {
        "ok": True,
        "clientOrgId": org,
        "currency": "usd",
        "period": period,
        "leads": {"count": len(items), "items": items, "nextCursor": None},
        "ai": {"cost": AI, "currency": "usd", "calls": 1, "capCents": 5000},
    }
    content = json.dumps(usage).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def after(start: datetime) -> datetime:
    """The first instant of the next month."""
    return (start + timedelta(days=32)).replace(day=1)


class _Instances(asyncio.Protocol):
    """One request and one answer a connection: the portal keeps none."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._read = b""

    def data_received(self, data: bytes) -> None:
        self._read += data
        if b"\r\n\r\n" not in self._read:
            return
        first, *lines = self._read.decode("latin-1").split("\r\n")
        month = parse_qs(urlsplit(first.split(" ")[1]).query)["period"][0]
        headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        self._transport.write(_answer(headers["x-provider-keyid"].removeprefix("key-"), month))


async def _answer_for_instances() -> None:
    server = await asyncio.get_running_loop().create_server(_Instances, "127.0.0.1", 0)
    print(f"instances at http://127.0.0.1:{server.sockets[0].getsockname()[1]} ", flush=True)
    await server.serve_forever()


def _bare(url: str, key: str, threads: int, clients: int) -> None:
    account = StripeAccount(key, api_base=url)
    with ThreadPoolExecutor(threads) as pool:
        ready = iter(list(pool.map(lambda n: _order(account, n), range(clients))))
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(_round(account, pool, ready, int(line))), flush=True)


def _round(
    account: StripeAccount, pool: ThreadPoolExecutor, ready: Iterator[InvoiceOrder], count: int
) -> dict[str, float]:
    orders = list(islice(ready, count))
    worked, began = _processor_seconds(), time.perf_counter()
    list(pool.map(lambda order: _bill(account, order), orders))
    seconds = time.perf_counter() - began
    return {"clients": len(orders), "seconds": seconds, "processor": _processor_seconds() - worked}


def _order(account: StripeAccount, number: int) -> InvoiceOrder:
    """As revenue's placing makes it for a client of the bench."""
    made = account.create_customer(
        name=f"Client {number}",
        email=None,
        metadata={"pf_customer": str(number)},
        idempotency_key=f"customer/{number}",
    )
    start = datetime(2026, 2, 1, tzinfo=UTC)
    key = f"usage:00000000-0000-0000-0000-{number:012d}:2026-02:1"
    lines = (
        (LEADS * 10_000, f"{LEADS} converted leads in 2026-02, 100.00 USD each"),
        (750, "AI usage in 2026-02"),
    )
    return InvoiceOrder(
        key=key,
        customer=OrderCustomer(key=str(number), name=f"Client {number}", stripe_id=made.id),
        currency="usd",
        lines=tuple(
            OrderLine(f"line:{place}", text, amount, starts=start, ends=after(start))
            for place, (amount, text) in enumerate(lines)
        ),
        description="Usage in 2026-02",
        metadata={"clientOrgId": f"org_{number}", "period": "2026-02", "pf_usage_invoice": key},
    )


def _bill(account: StripeAccount, order: InvoiceOrder) -> None:
    made = account.create_invoice(
        customer_id=order.customer.stripe_id or "",
        currency=order.currency,
        metadata={**order.metadata, "pf_key": order.key},
        idempotency_key=f"pf/{order.key}/invoice/1",
        days_until_due=order.days_until_due,
        description=order.description,
    )
    lines = [line.parameters() for line in order.lines]
    account.add_lines(made.id, lines, idempotency_key=f"pf/{order.key}/lines-0/1")
    account.finalize_invoice(made.id, idempotency_key=f"pf/{order.key}/finalise/1")
    account.send_invoice(made.id, idempotency_key=f"pf/{order.key}/send/1")


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    if sys.argv[1] == "instances":
        asyncio.run(_answer_for_instances())
    else:
        _bare(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
