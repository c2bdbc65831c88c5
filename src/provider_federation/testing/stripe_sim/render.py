"""From a stored object to what Stripe shows: own fields off, lists and links on, `expand` followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from provider_federation.testing.stripe_sim.errors import invalid
from provider_federation.testing.stripe_sim.shape import list_of
from provider_federation.testing.stripe_sim.store import Object, deep_copy

if TYPE_CHECKING:
    from provider_federation.testing.stripe_sim.call import Call

_LINES_SHOWN = 10
_DEEPEST_EXPAND = 4


def render(call: Call, body: Object) -> Object:
    """The object as an answer shows it."""
    shown = {name: deep_copy(value) for name, value in body.items() if not name.startswith("_")}
    special = _RENDERERS.get(body.get("object", ""))
    finished = body.get("deleted") or not body.keys() & {"_lines", "_items"}  # a preview is rendered already
    return shown if finished or special is None else special(call, body, shown)


def _invoice(call: Call, body: Object, shown: Object) -> Object:
    lines = [call.tx.find("line_item", identity) for identity in body["_lines"]]
    shown["lines"] = list_of(
        [render(call, line) for line in lines[:_LINES_SHOWN] if line],
        f"/v1/invoices/{body['id']}/lines",
        has_more=len(lines) > _LINES_SHOWN,
    )
    if body.get("_token"):
        shown["hosted_invoice_url"] = f"{call.base_url}/i/{body['_token']}"
        shown["invoice_pdf"] = f"{call.base_url}/i/{body['_token']}/pdf"
    return shown


def _subscription(call: Call, body: Object, shown: Object) -> Object:
    items = [call.tx.find("subscription_item", identity) for identity in body["_items"]]
    shown["items"] = list_of(
        [render(call, item) for item in items if item], f"/v1/subscription_items?subscription={body['id']}"
    )
    return shown


def _credit_note(call: Call, body: Object, shown: Object) -> Object:
    lines = body["_lines"]
    shown["lines"] = list_of(
        deep_copy(lines[:_LINES_SHOWN]),
        f"/v1/credit_notes/{body['id']}/lines",
        has_more=len(lines) > _LINES_SHOWN,
    )
    shown["pdf"] = f"{call.base_url}/i/{body['_invoice_token']}/pdf"
    return shown


_RENDERERS: dict[str, Callable[[Call, Object, Object], Object]] = {
    "invoice": _invoice,
    "subscription": _subscription,
    "credit_note": _credit_note,
}

# For each kind of object: the fields that hold an id, and the kind that the id is of.
_EXPANDABLE: dict[str, dict[str, str]] = {
    "invoice": {"customer": "customer", "default_payment_method": "payment_method"},
    "subscription": {
        "customer": "customer",
        "latest_invoice": "invoice",
        "default_payment_method": "payment_method",
        "pending_setup_intent": "setup_intent",
        "schedule": "subscription_schedule",
    },
    "subscription_schedule": {"customer": "customer", "subscription": "subscription"},
    "subscription_details": {"subscription": "subscription"},
    "line_item": {"subscription": "subscription"},
    "price_details": {"price": "price"},
    "price": {"product": "product"},
    "product": {"default_price": "price"},
    "invoiceitem": {"customer": "customer", "invoice": "invoice"},
    "invoice_payment": {"invoice": "invoice"},
    "payment": {"payment_intent": "payment_intent", "charge": "charge"},
    "payment_intent": {"customer": "customer", "latest_charge": "charge", "payment_method": "payment_method"},
    "charge": {"customer": "customer", "payment_intent": "payment_intent"},
    "refund": {"charge": "charge", "payment_intent": "payment_intent"},
    "credit_note": {
        "customer": "customer",
        "invoice": "invoice",
        "customer_balance_transaction": "customer_balance_transaction",
    },
    "refund_of_note": {"refund": "refund"},
    "customer": {"default_source": "source"},
    "invoice_settings": {"default_payment_method": "payment_method"},
    "customer_balance_transaction": {
        "customer": "customer",
        "invoice": "invoice",
        "credit_note": "credit_note",
    },
    "payment_method": {"customer": "customer"},
}
_INSIDE = {"subscription_details", "price_details", "payment", "invoice_settings"}


def expand(call: Call, shown: Object, paths: list[str]) -> Object:
    """Follow the `expand` paths in place; a path that leads nowhere is a 400 as with Stripe."""
    for path in paths:
        parts = path.split(".")
        if len(parts) > _DEEPEST_EXPAND + (parts[0] == "data"):
            raise invalid(f"You cannot expand more than {_DEEPEST_EXPAND} levels of a property.", "expand")
        _follow(call, shown, parts, path)
    return shown


def _follow(call: Call, node: Any, parts: list[str], path: str) -> None:
    if not parts or node is None:
        return
    if isinstance(node, list):
        for item in node:
            _follow(call, item, parts, path)
        return
    name = parts[0]
    node.setdefault(name, _made_on_request(call, node, name)) if _is_made_on_request(node, name) else None
    if name not in node:
        raise _cannot_expand(path)
    value, kind = node[name], _kind_of(node, name)
    if isinstance(value, str):
        value = node[name] = _expanded(call, value, kind, path)
    elif len(parts) == 1 and value is not None and not isinstance(value, dict | list):
        raise _cannot_expand(path)
    _follow(call, value, parts[1:], path)


def _kind_of(node: Object, name: str) -> str | None:
    object_kind = str(node.get("object", ""))
    if object_kind in _EXPANDABLE:
        return _EXPANDABLE[object_kind].get(name)
    for inner in _INSIDE:
        if name in _EXPANDABLE[inner]:
            return _EXPANDABLE[inner][name]
    return _EXPANDABLE["refund_of_note"].get(name)


def _expanded(call: Call, identity: str, kind: str | None, path: str) -> Object:
    found = call.tx.find(kind, identity) if kind else None
    if found is None:
        raise _cannot_expand(path)
    return render(call, found)


def _is_made_on_request(node: Object, name: str) -> bool:
    return (node.get("object"), name) in {
        ("invoice", "payments"),
        ("invoice", "confirmation_secret"),
        ("customer", "subscriptions"),
        ("charge", "refunds"),
        ("customer", "sources"),
        ("customer", "tax_ids"),
        ("invoice", "latest_revision"),
    }


def _made_on_request(call: Call, node: Object, name: str) -> Any:
    identity = node["id"]
    if name == "payments":
        rows = [render(call, row) for row in call.tx.newest("invoice_payment") if row["invoice"] == identity]
        return list_of(rows, f"/v1/invoice_payments?invoice={identity}")
    if name == "confirmation_secret":
        secret = (call.tx.find("invoice", identity) or {}).get("_client_secret")
        return {"client_secret": secret, "type": "payment_intent"} if secret else None
    if name == "subscriptions":
        rows = [
            render(call, row)
            for row in call.tx.newest("subscription")
            if row["customer"] == identity and row["status"] != "canceled"
        ]
        return list_of(rows, f"/v1/customers/{identity}/subscriptions")
    if name == "refunds":
        rows = [render(call, row) for row in call.tx.newest("refund") if row["charge"] == identity]
        return list_of(rows, f"/v1/charges/{identity}/refunds")
    return list_of([], f"/v1/customers/{identity}/{name}") if name in {"sources", "tax_ids"} else None


def _cannot_expand(path: str) -> Exception:
    return invalid(f"This property cannot be expanded ({path}).", "expand")
