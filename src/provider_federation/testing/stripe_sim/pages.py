"""The hosted invoice page: what a customer sees behind `hosted_invoice_url`, with a button that pays."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from provider_federation.testing.stripe_sim.objects.invoice_life import collect
from provider_federation.testing.stripe_sim.objects.invoice_totals import lines_of
from provider_federation.testing.stripe_sim.objects.payment_methods import card_of_number, new_card
from provider_federation.testing.stripe_sim.page_style import CONTENT_SECURITY_POLICY, STYLE
from provider_federation.testing.stripe_sim.pdf import text_pdf
from provider_federation.testing.stripe_sim.validation import Params

if TYPE_CHECKING:
    from provider_federation.testing.stripe_sim.call import Call
    from provider_federation.testing.stripe_sim.simulator import Simulator
    from provider_federation.testing.stripe_sim.store import Object

_ZERO_DECIMAL = frozenset(
    {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"}
)
_THREE_DECIMAL = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
_GOOD_CARD = "4242 4242 4242 4242"
_SIMULATED = "Stripe simulator: no real invoice, no real money."
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">
<title>{title}</title><style>{style}</style></head>
<body><div class="note" role="note">{simulated}</div><main>{inner}</main></body></html>"""
_HEAD = """<section><div class="row"><div><div class="soft">{seller}</div><h1>{amount}</h1>
<div class="soft">{due}</div></div><span class="tag {status}" data-status="{status}">{label}</span></div></section>"""
_PARTIES = """<section><dl><dt>Invoice</dt><dd>{number}</dd><dt>To</dt><dd>{customer}</dd>
<dt>From</dt><dd>{seller}</dd><dt>Issued</dt><dd>{issued}</dd></dl>{description}</section>"""
_LINES = """<section><h2>Lines</h2><table>
<thead><tr><th>Description</th><th class="n">Qty</th><th class="n">Amount</th></tr></thead>
<tbody>{rows}</tbody><tfoot>{sums}</tfoot></table>
<p><a href="/i/{token}/pdf">Download PDF</a></p></section>"""
_FORM = """<section><h2>Pay by card</h2>{error}<form method="post" action="/i/{token}">
<label for="card">Card number (a test card)</label>
<input id="card" name="card" inputmode="numeric" autocomplete="off" value="{card}" aria-describedby="hint">
<div class="soft" id="hint">{card} pays, 4000 0000 0000 0002 is declined.</div>
<button type="submit">Pay now</button></form></section>"""
_PAID = """<section><h2 class="paid">Thank you, this invoice is paid</h2>
<div class="soft">On {day}.</div></section>"""
_CLOSED = """<section><h2 class="void">This invoice is void</h2>
<div class="soft">Nothing is to be paid.</div></section>"""
_NO_INVOICE = """<section><h1>No such invoice</h1>
<p>This link leads nowhere. Ask the sender for a new one.</p></section>"""


@dataclass(frozen=True)
class Page:
    """One answer to a browser."""

    status: int
    body: bytes
    content_type: str = "text/html; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


def handle(simulator: Simulator, method: str, path: str, body: bytes) -> Page:
    """`GET /i/{token}`, `GET /i/{token}/pdf`, `POST /i/{token}` (pays)."""
    token, _, rest = path.removeprefix("/i/").partition("/")
    place = simulator.store.tokens.get(token)
    if place is None or rest not in {"", "pdf"}:
        return _html(404, "Not found", _NO_INVOICE)
    call = simulator.call(simulator.store.accounts[place[0]], Params({}))
    invoice = call.tx.edit("invoice", place[1])
    if method == "GET":
        return _pdf(call, invoice) if rest else _shown(call, invoice)
    if method == "POST" and not rest:
        return _pay(simulator, call, invoice, body, path)
    return _html(405, "Not allowed", "<section><h1>Not allowed</h1></section>")


def _pay(simulator: Simulator, call: Call, invoice: Object, body: bytes, path: str) -> Page:
    """One attempt with the card on the form. A second press of the button changes nothing."""
    if invoice["status"] in {"open", "uncollectible"}:
        number = parse_qs(body.decode("latin-1")).get("card", [_GOOD_CARD])[0]
        name = card_of_number(number)
        if name is None:
            return _shown(call, invoice, 400, f"This is not a test card. Try {_GOOD_CARD}.")
        refusal = collect(call, invoice, new_card(call, name))
        simulator.commit(call)
        if refusal:
            return _shown(call, invoice, 402, f"{refusal} Nothing was charged; try another card.")
    return Page(303, b"", headers={"location": path})


def _shown(call: Call, invoice: Object, status: int = 200, error: str = "") -> Page:
    seller = escape(invoice["account_name"] or "")
    remaining = invoice["total"] if invoice["status"] == "paid" else invoice["amount_remaining"]
    description = invoice["description"]
    parts = [
        _HEAD.format(
            seller=seller, amount=_money(remaining, invoice["currency"]), due=_due(invoice),
            status=invoice["status"], label=invoice["status"].capitalize(),
        ),
        _form(invoice, error),
        _PARTIES.format(
            number=escape(invoice["number"] or ""), customer=escape(_customer(invoice)), seller=seller,
            issued=_day(invoice["status_transitions"]["finalized_at"]),
            description=f"<p>{escape(description)}</p>" if description else "",
        ),
        _LINES.format(
            rows="".join(_row(line) for line in lines_of(call, invoice)), token=invoice["_token"],
            sums="".join(_sum(name, amount, invoice["currency"]) for name, amount in _sums(invoice)),
        ),
    ]  # fmt: skip
    return _html(status, f"Invoice {invoice['number']}", "\n".join(parts))


def _sums(invoice: Object) -> list[tuple[str, int]]:
    """What stands below the lines; a row of zero is left out where it would say nothing."""
    taxes = [tax["amount"] for tax in invoice["total_taxes"] or [] if tax["tax_behavior"] == "exclusive"]
    optional = {
        "Tax": sum(taxes),
        "Applied balance": invoice["starting_balance"] - (invoice["ending_balance"] or 0),
        "Credit notes": -invoice["pre_payment_credit_notes_amount"],
        "Amount paid": -invoice["amount_paid"],
    }
    shown = [(name, amount) for name, amount in optional.items() if amount]
    before = [row for row in shown if row[0] == "Tax"]
    after = [row for row in shown if row[0] != "Tax"]
    return [
        ("Subtotal", invoice["subtotal"]), *before, ("Total", invoice["total"]), *after,
        ("Amount remaining", invoice["amount_remaining"]),
    ]  # fmt: skip


def _form(invoice: Object, error: str) -> str:
    if invoice["status"] == "paid":
        return _PAID.format(day=_day(invoice["status_transitions"]["paid_at"]))
    if invoice["status"] not in {"open", "uncollectible"}:
        return _CLOSED
    message = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
    return _FORM.format(error=message, token=invoice["_token"], card=_GOOD_CARD)


def _sum(name: str, amount: int, currency: str) -> str:
    return f'<tr><td colspan="2" class="n">{name}</td><td class="n">{_money(amount, currency)}</td></tr>'


def _row(line: Object) -> str:
    amount, text = _money(line["amount"], line["currency"]), escape(line["description"] or "Item")
    return f'<tr><td>{text}</td><td class="n">{line["quantity"] or ""}</td><td class="n">{amount}</td></tr>'


def _customer(invoice: Object) -> str:
    return str(invoice["customer_name"] or invoice["customer_email"] or invoice["customer"])


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
    html = _PAGE.format(title=escape(title), style=STYLE, simulated=_SIMULATED, inner=inner)
    headers = {
        "content-security-policy": CONTENT_SECURITY_POLICY, "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer", "x-frame-options": "DENY",
    }  # fmt: skip
    return Page(status, html.encode(), headers=headers)


def _pdf(call: Call, invoice: Object) -> Page:
    currency = invoice["currency"]
    rows = [
        f"{line['quantity'] or ''} x {line['description'] or 'Item'}: {_money(line['amount'], currency)}"
        for line in lines_of(call, invoice)
    ]
    lines = [
        f"# Invoice {invoice['number']}", _SIMULATED, "", f"From: {invoice['account_name']}",
        f"To: {_customer(invoice)}", f"Issued: {_day(invoice['status_transitions']['finalized_at'])}",
        _due(invoice), "", *rows, "",
        *(f"{name}: {_money(amount, currency)}" for name, amount in _sums(invoice)), f"Status: {invoice['status']}",
    ]  # fmt: skip
    name = "".join(letter for letter in invoice["number"] or "invoice" if letter.isalnum() or letter in "-_")
    headers = {"content-disposition": f'inline; filename="{name}.pdf"', "x-content-type-options": "nosniff"}
    return Page(200, text_pdf(lines), "application/pdf", headers)
