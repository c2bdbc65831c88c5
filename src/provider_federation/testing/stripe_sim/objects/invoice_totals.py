"""What an invoice comes to: the sum of its lines, the customer's balance, what is due."""

from __future__ import annotations

from provider_federation.testing.stripe_sim.call import Call
from provider_federation.testing.stripe_sim.objects.common import minimum_charge
from provider_federation.testing.stripe_sim.objects.tax_rates import taxes_of
from provider_federation.testing.stripe_sim.store import Object


def lines_of(call: Call, invoice: Object) -> list[Object]:
    """The stored lines in the invoice's order."""
    found = (call.tx.find("line_item", identity) for identity in invoice["_lines"])
    return [line for line in found if line is not None]


def recompute(call: Call, invoice: Object) -> None:
    """Totals of a draft from its lines. The customer's balance is shown as it would apply now; it settles
    when finalised.
    """
    lines = lines_of(call, invoice)
    rates = invoice["default_tax_rates"]
    if rates:
        for line in (line for line in lines if not line.get("_own_taxes")):
            call.tx.edit("line_item", line["id"])["taxes"] = taxes_of(rates, line["amount"])
        lines = lines_of(call, invoice)
    taxes = [tax for line in lines for tax in line["taxes"] or []]
    exclusive = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "exclusive")
    inclusive = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "inclusive")
    subtotal = sum(line["amount"] for line in lines)
    customer = call.tx.find("customer", invoice["customer"]) or {}
    balance = customer.get("balance", 0) if customer.get("currency") == invoice["currency"] else 0
    invoice |= {
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal - inclusive,
        "total": subtotal + exclusive,
        "total_excluding_tax": subtotal - inclusive,
        "total_taxes": [dict(tax) for tax in taxes],
        "starting_balance": balance,
    }
    due, _ = due_and_ending_balance(invoice)
    invoice |= {"amount_due": due, "amount_remaining": due}


def due_and_ending_balance(invoice: Object) -> tuple[int, int]:
    """(amount to collect, customer's balance afterwards), in minor units.

    Credit is used up first; what is below the smallest charge, or below zero, moves to the balance and
    nothing is due.
    """
    owed = invoice["total"] + invoice["starting_balance"]
    if owed < minimum_charge(invoice["currency"]):
        return 0, owed
    return owed, 0
