"""The hosted invoice page: what a customer sees behind `hosted_invoice_url`, with a button that pays."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from provider_federation.testing.stripe_sim.errors import StripeError
from provider_federation.testing.stripe_sim.objects.invoice_life import collect
from provider_federation.testing.stripe_sim.objects.invoice_totals import lines_of
from provider_federation.testing.stripe_sim.objects.payment_methods import card_of_number, new_card
from provider_federation.testing.stripe_sim.pdf import text_pdf
from provider_federation.testing.stripe_sim.validation import Params

if TYPE_CHECKING:
    from provider_federation.testing.stripe_sim.call import Call
    from provider_federation.testing.stripe_sim.simulator import Simulator
    from provider_federation.testing.stripe_sim.store import Object

_ZERO_DECIMAL = {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"}
_THREE_DECIMAL = {"bhd", "jod", "kwd", "omr", "tnd"}
_GOOD_CARD = "4242 4242 4242 4242"
_LABELS = {"open": "Open", "paid": "Paid", "void": "Void", "uncollectible": "Uncollectible"}
_STYLE = """
:root{color-scheme:light dark;--ink:#1a1f36;--soft:#5b6478;--line:#e3e8ee;--card:#fff;--page:#f6f8fb;--go:#4f46e5;--good:#0e7a4b;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#edf0f7;--soft:#a6afc3;--line:#2c3347;--card:#171b2a;--page:#0e111b;--go:#6d66f5;--good:#4ccb91;--bad:#ff8a80}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
.note{background:#fdf1c7;color:#5c4300;text-align:center;padding:.5rem 1rem;font-size:.875rem}
main{max-width:44rem;margin:2rem auto;padding:0 1rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.75rem;padding:1.5rem;margin-bottom:1rem}
h1{font-size:2rem;margin:.25rem 0;font-variant-numeric:tabular-nums}h2{font-size:1rem;margin:0 0 .75rem}
.soft{color:var(--soft)}.row{display:flex;flex-wrap:wrap;justify-content:space-between;gap:.5rem 1.5rem;align-items:flex-start}
.tag{border-radius:1rem;padding:.125rem .75rem;font-size:.875rem;border:1px solid currentColor}.paid{color:var(--good)}.void,.uncollectible{color:var(--bad)}
dl{display:grid;grid-template-columns:auto 1fr;gap:.25rem 1.5rem;margin:0}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
table{width:100%;border-collapse:collapse}th{font-weight:500;color:var(--soft);font-size:.875rem;text-align:left}
th,td{padding:.5rem .25rem;border-bottom:1px solid var(--line);vertical-align:top}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tfoot td{border:0}tfoot tr:last-child{font-weight:650}
label{display:block;font-size:.875rem;margin-bottom:.25rem}input{width:100%;font:inherit;padding:.625rem .75rem;border:1px solid var(--line);border-radius:.5rem;background:var(--page);color:inherit}
button{width:100%;margin-top:.75rem;font:inherit;font-weight:600;padding:.75rem;border:0;border-radius:.5rem;background:var(--go);color:#fff;cursor:pointer}
button:hover{filter:brightness(1.1)}:focus-visible{outline:3px solid var(--go);outline-offset:2px}
.error{color:var(--bad);margin:0 0 .75rem}a{color:inherit}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_CSP = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


@dataclass(frozen=True)
class Page:
    status: int
    body: bytes
    content_type: str = "text/html; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


def handle(simulator: Simulator, method: str, path: str, body: bytes) -> Page:
    """`GET /i/{token}`, `GET /i/{token}/pdf`, `POST /i/{token}` (pays)."""
    token, _, rest = path.removeprefix("/i/").partition("/")
    place = simulator.store.tokens.get(token)
    if place is None or rest not in {"", "pdf"}:
        return _html(404, "Not found", "<section><h1>No such invoice</h1><p>This link leads nowhere. Ask the sender for a new one.</p></section>")
    call = simulator.call(simulator.store.accounts[place[0]], Params({}))
    invoice = call.tx.edit("invoice", place[1])
    if rest == "pdf":
        return _pdf(call, invoice) if method == "GET" else _html(405, "Not allowed", "")
    if method == "POST":
        return _pay(simulator, call, invoice, body, path)
    return _html(200, f"Invoice {invoice['number']}", _invoice(call, invoice)) if method == "GET" else _html(405, "Not allowed", "")


def _pay(simulator: Simulator, call: Call, invoice: Object, body: bytes, path: str) -> Page:
    """One attempt with the card on the form. A second press of the button changes nothing."""
    if invoice["status"] in {"open", "uncollectible"}:
        number = parse_qs(body.decode("latin-1")).get("card", [_GOOD_CARD])[0]
        name = card_of_number(number)
        if name is None:
            return _html(400, "Payment", _invoice(call, invoice, f"This is not a test card. Try {_GOOD_CARD}."))
        refusal = collect(call, invoice, new_card(call, name))
        simulator.commit(call)
        if refusal:
            return _html(402, "Payment declined", _invoice(call, invoice, _reason(refusal)))
    return Page(303, b"", headers={"location": path})


def _reason(refusal: StripeError) -> str:
    return f"{refusal} Nothing was charged; try another card."


def _invoice(call: Call, invoice: Object, error: str = "") -> str:
    status = invoice["status"]
    rows = "".join(_row(line) for line in lines_of(call, invoice))
    sums = [("Subtotal", invoice["subtotal"])]
    taxes = sum(tax["amount"] for tax in invoice["total_taxes"] or [] if tax["tax_behavior"] == "exclusive")
    sums += [("Tax", taxes)] if taxes else []
    sums += [("Total", invoice["total"])]
    if invoice["starting_balance"]:
        sums.append(("Applied balance", invoice["starting_balance"] - (invoice["ending_balance"] or 0)))
    if invoice["pre_payment_credit_notes_amount"]:
        sums.append(("Credit notes", -invoice["pre_payment_credit_notes_amount"]))
    sums += [("Amount paid", -invoice["amount_paid"])] if invoice["amount_paid"] else []
    sums.append(("Amount remaining", invoice["amount_remaining"]))
    foot = "".join(f'<tr><td colspan=2 class=n>{name}</td><td class=n>{_money(amount, invoice["currency"])}</td></tr>' for name, amount in sums)
    headline = invoice["total"] if status == "paid" else invoice["amount_remaining"]
    return f"""
<section><div class=row><div><div class=soft>{escape(invoice["account_name"] or "")}</div>
<h1>{_money(headline, invoice["currency"])}</h1><div class=soft>{_due(invoice)}</div></div>
<span class="tag {status}" data-status="{status}">{_LABELS.get(status, status)}</span></div></section>
{_form(invoice, error)}
<section><dl><dt>Invoice</dt><dd>{escape(invoice["number"] or "")}</dd>
<dt>To</dt><dd>{escape(invoice["customer_name"] or invoice["customer_email"] or invoice["customer"])}</dd>
<dt>From</dt><dd>{escape(invoice["account_name"] or "")}</dd><dt>Issued</dt><dd>{_day(invoice["status_transitions"]["finalized_at"])}</dd></dl>
{f'<p>{escape(invoice["description"])}</p>' if invoice["description"] else ""}</section>
<section><h2>Lines</h2><table><thead><tr><th>Description</th><th class=n>Qty</th><th class=n>Amount</th></tr></thead>
<tbody>{rows}</tbody><tfoot>{foot}</tfoot></table>
<p><a href="/i/{invoice["_token"]}/pdf">Download PDF</a></p></section>"""


def _form(invoice: Object, error: str) -> str:
    if invoice["status"] == "paid":
        return f'<section><h2 class=paid>Thank you, this invoice is paid</h2><div class=soft>On {_day(invoice["status_transitions"]["paid_at"])}.</div></section>'
    if invoice["status"] not in {"open", "uncollectible"}:
        return '<section><h2 class=void>This invoice is void</h2><div class=soft>Nothing is to be paid.</div></section>'
    message = f'<p class=error role=alert>{escape(error)}</p>' if error else ""
    return f"""<section><h2>Pay by card</h2>{message}<form method=post action="/i/{invoice["_token"]}">
<label for=card>Card number (a test card)</label>
<input id=card name=card inputmode=numeric autocomplete=off value="{_GOOD_CARD}" aria-describedby=hint>
<div class=soft id=hint>{_GOOD_CARD} pays, 4000 0000 0000 0002 is declined.</div><button type=submit>Pay now</button></form></section>"""


def _row(line: Object) -> str:
    amount = _money(line["amount"], line["currency"])
    return f'<tr><td>{escape(line["description"] or "Item")}</td><td class=n>{line["quantity"] or ""}</td><td class=n>{amount}</td></tr>'


def _money(amount: int, currency: str) -> str:
    digits = 0 if currency in _ZERO_DECIMAL else 3 if currency in _THREE_DECIMAL else 2
    whole, part = divmod(abs(amount), 10**digits)
    sign, symbol = "-" if amount < 0 else "", "$" if currency == "usd" else f"{currency.upper()} "
    return f"{sign}{symbol}{whole:,}" + (f".{part:0{digits}d}" if digits else "")


def _day(moment: int | None) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%d %B %Y") if moment else ""


def _due(invoice: Object) -> str:
    if invoice["status"] == "paid":
        return f"Paid {_day(invoice['status_transitions']['paid_at'])}"
    return f"Due {_day(invoice['due_date'])}" if invoice["due_date"] else "Due now"


def _html(status: int, title: str, inner: str) -> Page:
    html = f"""<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width,initial-scale=1">
<meta name=robots content=noindex><title>{escape(title)}</title><style>{_STYLE}</style></head>
<body><div class=note role=note>Stripe simulator: no real invoice, no real money.</div><main>{inner}</main></body></html>"""
    headers = {"content-security-policy": _CSP, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "x-frame-options": "DENY"}
    return Page(status, html.encode(), headers=headers)


def _pdf(call: Call, invoice: Object) -> Page:
    currency = invoice["currency"]
    lines = [
        f"# Invoice {invoice['number']}", "Made by a simulator: no real invoice, no real money.", "",
        f"From: {invoice['account_name']}", f"To: {invoice['customer_name'] or invoice['customer_email'] or invoice['customer']}",
        f"Issued: {_day(invoice['status_transitions']['finalized_at'])}", _due(invoice), "",
        *[f"{line['quantity'] or ''} x {line['description'] or 'Item'}: {_money(line['amount'], currency)}" for line in lines_of(call, invoice)],
        "", f"Total: {_money(invoice['total'], currency)}", f"Paid: {_money(invoice['amount_paid'], currency)}",
        f"Remaining: {_money(invoice['amount_remaining'], currency)}", f"Status: {invoice['status']}",
    ]
    name = "".join(letter for letter in invoice["number"] or "invoice" if letter.isalnum() or letter in "-_")
    return Page(200, text_pdf(lines), "application/pdf", {"content-disposition": f'inline; filename="{name}.pdf"', "x-content-type-options": "nosniff"})
