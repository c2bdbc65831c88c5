"""`/_sim/…`: the levers of a test. JSON in, JSON out; accounts are named by `key` (the secret key) or
`account` (its id).
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from provider_federation.kit import clock
from provider_federation.testing.stripe_sim.store import account_id
from provider_federation.testing.stripe_sim.webhooks import FAULTS, WebhookFault

if TYPE_CHECKING:
    from provider_federation.testing.stripe_sim.simulator import Simulator

Result = tuple[int, Any]


async def handle(simulator: Simulator, method: str, path: str, body: bytes, query: bytes) -> Result:
    """One control request: (status, JSON)."""
    handler = _ROUTES.get((method, path))
    if handler is None:
        served = sorted(f"{method} {path}" for method, path in _ROUTES)
        return 404, {"error": f"the simulator has no control {method} {path}", "served": served}
    try:
        wanted = json.loads(body) if body else {}
        if not isinstance(wanted, dict):
            return 400, {"error": "the body must be a JSON object"}
        wanted |= dict(parse_qsl(query.decode("latin-1")))
        if "key" in wanted:
            wanted["account"] = account_id(wanted.pop("key"))
        return 200, await handler(simulator, wanted)
    except (ValueError, TypeError, KeyError, OSError) as error:
        return 400, {"error": f"{type(error).__name__}: {error}"}


async def _advance(simulator: Simulator, wanted: dict[str, Any]) -> Any:
    """`seconds` or `to` moves the clock (the shared file, if there is one); what is due by then happens,
    retries are due.
    """
    if "to" in wanted:
        to = (
            datetime.fromisoformat(wanted["to"])
            if isinstance(wanted["to"], str)
            else datetime.fromtimestamp(wanted["to"], UTC)
        )
        seconds = int(to.timestamp()) - simulator.now()
    else:
        seconds = int(wanted.get("seconds", 0))
    if seconds < 0:
        raise ValueError("the clock only moves forward")
    if seconds:
        _move(simulator, seconds)
    happened = simulator.catch_up()
    simulator.webhooks.make_all_due()
    return {"now": simulator.now(), "happened": happened}


def _move(simulator: Simulator, seconds: int) -> None:
    owned = os.environ.get(clock.CLOCK_VARIABLE)
    if owned is None:
        simulator.shift_clock(seconds)
        return
    value = json.loads(Path(owned).read_text())
    if "at" in value:
        clock.set_clock(Path(owned), at=datetime.fromtimestamp(simulator.now() + seconds, UTC))
    else:
        clock.set_clock(Path(owned), offset=float(value["offset"]) + seconds)


async def _now(simulator: Simulator, _wanted: dict[str, Any]) -> Any:
    return {"now": simulator.now()}


async def _add_fault(simulator: Simulator, wanted: dict[str, Any]) -> Any:
    if wanted.get("kind") == "forget_idempotency":
        chosen = [wanted["account"]] if "account" in wanted else list(simulator.store.accounts)
        for identity in chosen:
            simulator.store.forget(simulator.store.account(identity, simulator.now()))
        return {"forgotten": chosen}
    return asdict(simulator.faults.add(**wanted))


async def _list_faults(simulator: Simulator, _wanted: dict[str, Any]) -> Any:
    return {
        "faults": simulator.faults.shown(),
        "webhooks": [asdict(fault) for fault in simulator.webhooks.faults if fault.count > 0],
    }


async def _clear_faults(simulator: Simulator, _wanted: dict[str, Any]) -> Any:
    simulator.faults.open.clear()
    simulator.webhooks.faults.clear()
    simulator.webhooks.release_held()
    return {"cleared": True}


async def _requests(simulator: Simulator, wanted: dict[str, Any]) -> Any:
    rows = [row for row in simulator.requests if wanted.get("account") in {None, row["account"]}]
    rows = [
        row
        for row in rows
        if all(str(row[name]) == wanted[name] for name in ("method", "path", "status") if name in wanted)
    ]
    return {"count": len(rows), "requests": rows}


async def _state(simulator: Simulator, _wanted: dict[str, Any]) -> Any:
    accounts = {
        identity: {
            "objects": {
                kind: len(rows) for kind, rows in account.objects.items() if rows and not kind.startswith("_")
            },
            "deliveries": simulator.webhooks.counts(account),
            "idempotency_keys": len(account.remembered),
        }
        for identity, account in simulator.store.accounts.items()
    }
    return {"now": simulator.now(), "accounts": accounts, "pending_webhooks": len(simulator.store.pending)}


async def _reset(simulator: Simulator, wanted: dict[str, Any]) -> Any:
    simulator.store.reset(wanted.get("account"))
    simulator.install_hooks()
    if "account" not in wanted:
        simulator.requests.clear()
        await _clear_faults(simulator, {})
    return {"reset": wanted.get("account", "all")}


async def _account(simulator: Simulator, wanted: dict[str, Any]) -> Any:
    """`name`: what invoices of the account show; `after_retries`: what an unpaid subscription becomes."""
    account = simulator.store.account(wanted["account"], simulator.now())
    if "name" in wanted:
        simulator.store.rename(account, str(wanted["name"])[:100])
    if "after_retries" in wanted:
        if wanted["after_retries"] not in {"cancel", "unpaid", "past_due"}:
            raise ValueError("after_retries must be cancel, unpaid or past_due")
        simulator.store.give_up_with(account, wanted["after_retries"])
    return {"account": account.id, "name": account.name, "after_retries": account.after_retries}


async def _webhook_fault(simulator: Simulator, wanted: dict[str, Any]) -> Any:
    fault = WebhookFault(**wanted)
    if fault.kind not in FAULTS:
        raise ValueError(f"kind must be one of {', '.join(FAULTS)}")
    simulator.webhooks.faults.append(fault)
    return asdict(fault)


async def _flush(simulator: Simulator, wanted: dict[str, Any]) -> Any:
    return await simulator.webhooks.flush(
        deadline=float(wanted.get("deadline", 30)), attempts=int(wanted.get("attempts", 1))
    )


_ROUTES: dict[tuple[str, str], Callable[[Simulator, dict[str, Any]], Awaitable[Any]]] = {
    ("GET", "/_sim/clock"): _now,
    ("POST", "/_sim/clock/advance"): _advance,
    ("POST", "/_sim/faults"): _add_fault,
    ("GET", "/_sim/faults"): _list_faults,
    ("DELETE", "/_sim/faults"): _clear_faults,
    ("GET", "/_sim/requests"): _requests,
    ("GET", "/_sim/state"): _state,
    ("POST", "/_sim/account"): _account,
    ("POST", "/_sim/reset"): _reset,
    ("POST", "/_sim/webhooks/faults"): _webhook_fault,
    ("POST", "/_sim/webhooks/flush"): _flush,
}
