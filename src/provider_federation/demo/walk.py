"""The main job, walked without a person: every figure is read from where it is kept and compared. Nothing
is assumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from typing import Any, TypeVar

from provider_federation.demo.books import (
    InstanceBook,
    Sums,
    dollars,
    portal_book,
    portal_ledger,
    signed_by_hand,
    stripe_book,
)
from provider_federation.demo.client import CallFailed, pay_hosted_invoice, wait_until
from provider_federation.demo.history import bill_clients, file_dispute, subscribe_clients
from provider_federation.demo.owner import Owner
from provider_federation.demo.plan import InstancePlan
from provider_federation.demo.world import World

_LEAD_CENTS = 10_000
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One line of the table: what was looked at, what was expected, what was there."""

    step: str
    subject: str
    expected: str
    seen: str

    @property
    def agrees(self) -> bool:
        return self.expected == self.seen


@dataclass
class Walk:
    """`rows` grows as it goes; `on_row` shows each one at once."""

    world: World
    on_row: Callable[[Row], None]
    rows: list[Row] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)

    def run(self, month: datetime) -> bool:
        """Walk over the closed month that begins at `month`; True when every figure agreed."""
        after = (month + timedelta(days=32)).replace(day=1)
        self.ids = {
            item["name"]: item["id"] for item in self.world.portal.pages("/api/provider/instances", limit=200)
        }
        subscribe_clients(self.world)
        self._clients_invoices(
            {"start": month.date().isoformat(), "end": (after - timedelta(days=1)).date().isoformat()}
        )
        self._customers_pay()
        self._three_books()
        self._totals()
        self._by_hand()
        self._signatures()
        self._usage_becomes_invoices(month, after)
        self._owner_disputes(f"{month:%Y-%m}")
        self._clients_pay()
        self._provider_books()
        self._reconcile(f"{month:%Y-%m}")
        return all(row.agrees for row in self.rows)

    def _row(self, step: str, subject: str, expected: object, seen: object) -> None:
        row = Row(step, subject, str(expected), str(seen))
        self.rows.append(row)
        self.on_row(row)

    # --- the clients' invoices to their customers

    def _clients_invoices(self, window: dict[str, str]) -> None:
        previews = _by_name(self.world.run_fleet("preview", window))
        drafts = _by_name(self.world.run_fleet("draft", window))
        sent = _by_name(self.world.run_fleet("send"))
        for instance in self.world.plan.instances:
            name = instance.name
            seen = previews[name]["result"]
            billable = _leads(seen["count"], seen["totalCents"])
            totals, counts = drafts[name]["result"]["totals"], drafts[name]["result"]["counts"]
            self._row("preview → draft", name, billable, _leads(counts["leads"], totals["totalCents"]))
            self._row(
                "draft → send",
                name,
                drafts[name]["result"]["invoiceCount"],
                sent[name]["result"]["sentCount"],
            )
            stripe = stripe_book(self.world.client_account(instance))
            self._row("send → Stripe", name, dollars(totals["totalCents"]), dollars(stripe.billed))

    def _customers_pay(self) -> None:
        """All but the newest invoice of each client are paid on the hosted page, so that open and paid
        both have figures.
        """
        for instance in self.world.plan.instances:
            account = self.world.client_account(instance)
            to_pay = account.list_invoices(status="open")[1:]
            for invoice in to_pay:
                pay_hosted_invoice(invoice.hosted_invoice_url or "")
            paid = sum(invoice.total for invoice in to_pay)
            book = self._instance_book(instance)
            # The instance learns it from nothing but the webhook.
            seen = _settled(f"the webhooks to reach {instance.name}", book.paid, paid)
            self._row("pay → webhook", instance.name, dollars(paid), dollars(seen))

    def _three_books(self) -> None:
        self.world.sync()
        for instance in self.world.plan.instances:
            stripe = stripe_book(self.world.client_account(instance))
            self._row("Stripe = instance", instance.name, stripe, self._instance_book(instance).sums())
            mirror = partial(portal_book, self.world.portal, self.ids[instance.name])
            seen = _settled(f"the portal to mirror {instance.name}", mirror, stripe)
            self._row("instance = portal", instance.name, stripe, seen)

    def _totals(self) -> None:
        answer = self.world.portal.get("/api/provider/totals", by="client")
        books = [stripe_book(self.world.client_account(instance)) for instance in self.world.plan.instances]
        expected = Sums(sum(b.count for b in books), sum(b.billed for b in books), sum(b.paid for b in books))
        rows = [row for row in answer["rows"] if row["currency"].lower() == "usd"]
        seen = (sum(row["billedCents"] for row in rows), sum(row["paidCents"] for row in rows))
        self._row(
            "totals: billed, paid",
            "all clients",
            f"{dollars(expected.billed)}, {dollars(expected.paid)}",
            ", ".join(map(dollars, seen)),
        )
        count = len(self.world.plan.instances)
        coverage = answer["coverage"]
        self._row(
            "totals: coverage",
            "all clients",
            f"{count} of {count}",
            f"{coverage['answered']} of {coverage['of']}",
        )

    def _by_hand(self) -> None:
        """What a person would try at a terminal: `call` through the portal's shim, and `sign` for curl."""
        for instance in self.world.plan.instances:
            count = len(self._instance_book(instance).invoices())
            called = json.loads(
                self.world.portal_command("call", instance.name, "GET", "/api/billing/list?limit=200")
            )
            self._row("call", instance.name, f"{count} invoices", f"{len(called['items'])} invoices")
            signed = signed_by_hand(instance, "/api/billing/list?limit=200")
            self._row("sign | curl", instance.name, f"{count} invoices", f"{len(signed['items'])} invoices")

    def _signatures(self) -> None:
        """How each is called, and a new key for the one that was paired by a code."""
        for instance in self.world.plan.instances:
            address = f"/api/provider/instances/{self.ids[instance.name]}"
            there = self.world.portal.post(f"{address}/check")["instance"]
            self._row("signatures", instance.name, instance.mode, there["check"]["mode"])
            self._row("ratchet", instance.name, instance.mode == "v2", there["v2Since"] is not None)
            if instance.enrolled:
                rotated = self.world.portal.post(f"{address}/keys/rotate", {"version": there["version"]})
                key = rotated["instance"]["key"]
                new = key["id"] != there["key"]["id"] and rotated["instance"]["check"]["ok"]
                self._row(
                    "key rotated",
                    instance.name,
                    "in_use, another",
                    f"{key['status']}, {'another' if new else 'same'}",
                )

    # --- the provider's invoices to its clients

    def _billing_run(self, label: str) -> dict[str, dict[str, Any]]:
        """Plan the month over all clients, have a second person approve its hash, and execute it; what became of
        each client, by its org.
        """
        path = "/api/provider/billing/runs"
        run = self.world.portal.post(path, {"period": label})["run"]
        address = f"{path}/{run['id']}"
        planned = self._run_reaches(address, "planned")
        total = sum(self._owed(instance, label) for instance in self.world.plan.instances)
        (sums,) = planned["report"]["totals"] or [{"plannedCents": 0}]
        self._row("billing run: planned", "all clients", dollars(total), dollars(sums["plannedCents"]))
        seen = {"planHash": planned["run"]["planHash"]}
        self._row(
            "approved by its planner", "all clients", "403 four_eyes", self._own_approval(address, seen)
        )
        approved = self.world.colleague().post(f"{address}/approve", seen)["run"]
        self._row("approved by another", "all clients", seen["planHash"][:19], approved["approvedHash"][:19])
        self.world.portal.post(f"{address}/execute")
        done = self._run_reaches(address, "done")["report"]
        billed = sum(sums["billedCents"] for sums in done["totals"])
        self._row("billing run: executed", "all clients", dollars(total), dollars(billed))
        return {item["clientOrgId"]: item for item in self.world.portal.pages(f"{address}/items", limit=200)}

    def _run_reaches(self, address: str, status: str) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            answer = self.world.portal.get(address)
            return answer if answer["run"]["status"] == status else None

        found: dict[str, Any] = wait_until(f"the billing run to be {status}", reached)
        return found

    def _own_approval(self, address: str, seen: dict[str, str]) -> str:
        try:
            self.world.portal.post(f"{address}/approve", seen)
        except CallFailed as refused:
            return f"{refused.status} {refused.reason}"
        return "approved"

    def _owed(self, instance: InstancePlan, label: str) -> int:
        """Cents that a client owes for a month, counted from what its instance says."""
        leads, cost, cap = self._instance_book(instance).usage(label)
        cents = int((Decimal(cost) * 100).quantize(Decimal(1), ROUND_HALF_UP))
        return len(leads) * _LEAD_CENTS + min(cents, cap)

    def _usage_becomes_invoices(self, start: datetime, end: datetime) -> None:
        label = f"{start:%Y-%m}"
        items = self._billing_run(label)
        again = {invoice["clientOrgId"]: invoice for invoice in bill_clients(self.world, start, end)}
        for instance in self.world.plan.instances:
            owed, item = self._owed(instance, label), items[instance.org]
            expected = f"billed {dollars(owed)}" if owed else f"nothing {dollars(0)}"
            seen = f"{item['state']} {dollars(item['totalCents'])}"
            self._row("usage → invoice", instance.name, expected, seen)
            made = item["stripeInvoiceId"] or "none"
            self._row("asked again", instance.name, made, _stripe_id(again.get(instance.org)))

    def _owner_disputes(self, label: str) -> None:
        """One lead, from the owner's page to the portal and back; it changes no figure of those below."""
        instance = self.world.plan.instances[0]
        lead = self._instance_book(instance).usage(label)[0][0]
        dispute = file_dispute(self.world, instance, lead, "This was our own test order.")
        self._row("dispute → portal", instance.name, f"client:{instance.org}", dispute["raisedBy"])
        decision = {"decision": "It did convert."}
        self.world.portal.post(f"/api/provider/billing/disputes/{dispute['id']}/reject", decision)
        owner = Owner.signed_in(instance.base_url, instance.owner, instance.password)

        def told() -> str:
            row = owner.disputes()[0]
            return f"{row['state']}: {row['decision']}"

        expected = f"rejected: {decision['decision']}"
        seen = _settled(f"{instance.name} to be told", told, expected)
        self._row("decision → client", instance.name, expected, seen)

    def _clients_pay(self) -> None:
        open_ones = self.world.provider_account.list_invoices(status="open")
        for invoice in open_ones:
            pay_hosted_invoice(invoice.hosted_invoice_url or "")

    def _provider_books(self) -> None:
        expected = stripe_book(self.world.provider_account)
        ledger = partial(portal_ledger, self.world.portal)
        seen = _settled("the portal's ledger to hear of it", ledger, expected)
        self._row("ledger = provider's Stripe", "all clients", expected, seen)
        differences = self.world.portal.get("/api/provider/billing/reconcile")["differences"]
        self._row("reconciliation", "provider's account", "0 differences", f"{len(differences)} differences")
        self._row("nothing outstanding", "all clients", dollars(seen.billed), dollars(seen.paid))
        for instance in self.world.plan.instances:
            usage = self.world.portal.pages("/api/provider/billing/invoices", clientOrgId=instance.org)
            states = sorted({invoice["status"] for invoice in usage}) or ["none"]
            self._row("client paid", instance.name, "paid", ", ".join(states))

    def _reconcile(self, label: str) -> None:
        """All three books, stored: portal, every instance, and the provider's Stripe account."""
        path = "/api/provider/billing/reconciliations"
        started = self.world.portal.post(path, {"period": label})["report"]["id"]

        def over() -> bool:
            return bool(self.world.portal.get(f"{path}/{started}")["report"]["status"] in {"done", "failed"})

        wait_until("the reconciliation to end", over)
        report = self.world.portal.get(f"{path}/{started}")
        count = len(self.world.plan.instances)
        seen = f"{report['report']['differences']} differences, {report['coverage']['answered']} of {count} answered"
        self._row("three books", "all clients", f"0 differences, {count} of {count} answered", seen)

    def _instance_book(self, instance: InstancePlan) -> InstanceBook:
        return InstanceBook(instance)


def _by_name(calls: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {call["instance"]: call for call in calls}


def _leads(count: int, cents: int) -> str:
    return f"{count} {'lead' if count == 1 else 'leads'}, {dollars(cents)}"


def _stripe_id(invoice: dict[str, Any] | None) -> str:
    return str(invoice["stripeInvoiceId"]) if invoice else "none"


def _settled(what: str, read: Callable[[], T], expected: T) -> T:
    """Read until it is what is expected, for as long as news may take to arrive; then hand over what is there,
    expected or not.
    """
    last = read()

    def look() -> bool:
        nonlocal last
        last = read()
        return last == expected

    with suppress(CallFailed):  # the row then shows the difference: a wrong line says more than an error
        wait_until(what, look)
    return last
