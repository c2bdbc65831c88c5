"""Months of business, made through the product's own routes: drafted, sent, paid and billed month by month
on the demo's clock.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from provider_federation.demo.books import InstanceBook
from provider_federation.demo.client import pay_hosted_invoice, wait_until
from provider_federation.demo.owner import Owner
from provider_federation.demo.plan import InstancePlan
from provider_federation.demo.world import World

_DISPUTES = "/api/provider/billing/disputes"
_DISPUTED = (
    "The same person came in twice, under two addresses of one firm.",
    "This was our own test order; nobody became a customer.",
)
_SHARE_PAID = 0.85
_PAID_BY_CLIENTS = 0.8


def make_history(world: World, months: list[datetime]) -> None:
    """Subscribe the clients, then live through `months` (their first days, oldest first), ending today."""
    chance = random.Random(7)
    subscribe_clients(world)
    for start in months:
        end = _next_month(start)
        world.travel(end + timedelta(days=1, hours=9))
        world.say(f"living through {start:%B %Y} …")
        window = {"start": start.date().isoformat(), "end": (end - timedelta(days=1)).date().isoformat()}
        world.run_fleet("draft", window)
        world.run_fleet("send")
        world.sync()
        _customers_pay(world, chance)
        bill_clients(world, start, end)
        _clients_pay(world, chance)
    world.travel_to_now()
    if months:
        _owner_disputes(world, f"{months[-1]:%Y-%m}")


def subscribe_clients(world: World) -> None:
    """Each client on its plan; the paid plans with a card."""
    for instance in world.plan.instances:
        body = {"clientOrgId": instance.org, "planId": instance.plan}
        if instance.plan != "BASE":
            body["paymentMethodId"] = "pm_card_visa"
        world.portal.post("/api/provider/billing/subscriptions", body)


def bill_clients(world: World, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Make every client's usage invoice of a month and wait until Stripe has it; those with nothing to
    bill are left out.
    """
    made: list[dict[str, Any]] = []
    for instance in world.plan.instances:
        body = {"clientOrgId": instance.org, "periodStart": start.isoformat(), "periodEnd": end.isoformat()}
        answer = world.portal.post("/api/provider/billing/revenue", body)
        if answer["invoice"]:
            made.append(answer["invoice"])
    return [_placed(world, invoice["id"]) for invoice in made]


def _placed(world: World, invoice_id: str) -> dict[str, Any]:
    def placed() -> dict[str, Any] | None:
        invoice: dict[str, Any] = world.portal.get(f"/api/provider/billing/invoices/{invoice_id}")["invoice"]
        return invoice if invoice["status"] in {"open", "paid", "held"} else None

    found: dict[str, Any] = wait_until(f"the usage invoice {invoice_id} to be placed", placed)
    return found


def _customers_pay(world: World, chance: random.Random) -> None:
    for instance in world.plan.instances:
        for invoice in world.client_account(instance).list_invoices(status="open"):
            if invoice.hosted_invoice_url and chance.random() < _SHARE_PAID:
                pay_hosted_invoice(invoice.hosted_invoice_url)


def _clients_pay(world: World, chance: random.Random) -> None:
    for invoice in world.provider_account.list_invoices(status="open"):
        if invoice.hosted_invoice_url and chance.random() < _PAID_BY_CLIENTS:
            pay_hosted_invoice(invoice.hosted_invoice_url)


def _owner_disputes(world: World, label: str) -> None:
    """The first client's owner disputes two leads of its last bill; one is rejected, one waits for a decision."""
    instance = world.plan.instances[0]
    leads, _cost, _cap = InstanceBook(instance).usage(label)
    for lead, words in zip(leads, _DISPUTED, strict=False):
        dispute = file_dispute(world, instance, lead, words)
        if lead == leads[0]:
            decision = {"decision": "Two people of one firm, and both became customers."}
            world.portal.post(f"{_DISPUTES}/{dispute['id']}/reject", decision)


def file_dispute(world: World, instance: InstancePlan, lead_id: str, words: str) -> dict[str, Any]:
    """The owner files it on the lead's page; the portal's dispute, once it has fetched it."""
    Owner.signed_in(instance.base_url, instance.owner, instance.password).disputes_lead(lead_id, words)

    def fetched() -> dict[str, Any] | None:
        found = world.portal.pages(_DISPUTES, clientOrgId=instance.org, state="open")
        return next((one for one in found if one["leadId"] == lead_id), None)

    dispute: dict[str, Any] = wait_until(f"the portal to fetch a dispute of {instance.name}", fetched)
    return dispute


def _next_month(start: datetime) -> datetime:
    return (start + timedelta(days=32)).replace(day=1)
