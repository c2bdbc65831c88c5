"""The walk: what is done in each month, through HTTP and the command line, and what the books say at its end.

It compares nothing: what was seen is kept by month, and the tests hold it against the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import stripe
from tests.scenarios.fourteen import table
from tests.scenarios.fourteen.house import ZONE, House

from provider_federation.demo.client import wait_until
from provider_federation.demo.history import file_dispute
from provider_federation.demo.owner import Owner
from provider_federation.demo.plan import InstancePlan
from provider_federation.stripe_account import StripeInvoice

BEGIN = "2027-12-17T12:00:00+00:00"
_BILLING = "/api/provider/billing"
_RUNS = "/api/provider/billing/runs"


@dataclass
class Seen:
    """`facts` are the figures of single events by their name; `months` the figures at each month's end."""

    facts: dict[str, Any] = field(default_factory=dict)
    months: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Walk:
    house: House
    seen: Seen = field(default_factory=Seen)

    def live(self) -> Seen:
        """All of it, month by month."""
        self.house.happen(self.house.a, [*table.A_HAPPENINGS])
        self.house.happen(self.house.b, [*table.B_HAPPENINGS])
        stories: dict[str, Callable[[], None]] = {
            "2027-12": self._trial,
            "2028-01": self._b_subscribes,
            "2028-02": self._upgrade,
            "2028-03": self._dispute_before_payment,
            "2028-05": self._disputes_after_payment,
            "2028-06": self._failed_payment,
            "2028-09": self._downgrade,
            "2028-10": self._escalation,
            "2028-12": self._cancellation,
        }
        before = ""
        for label in table.MONTHS:
            if before:
                self._bill(before, f"{label}-02")
            stories.get(label, lambda: None)()
            self._month_end(label)
            before = label
        self._bill(before, "2029-02-02")
        self._close()
        return self.seen

    # --- the stories

    def _trial(self) -> None:
        made = self._subscribe(self.house.a, trialDays=14)
        self.house.settle()
        self.seen.facts["trial"] = {"status": made["status"], "ends": made["trialEnd"]}

    def _b_subscribes(self) -> None:
        self.house.go_to("2028-01-10T09:00:00+00:00")
        self._subscribe(self.house.b)
        self.house.settle()

    def _upgrade(self) -> None:
        self.house.go_to("2028-02-15T00:00:00+00:00")
        address = f"{_BILLING}/subscriptions/{self._subscription(self.house.a)['id']}"
        preview = self.house.portal.post(f"{address}/preview", {"planId": "ELITE"})["preview"]
        body = {"planId": "ELITE", "previewToken": preview["previewToken"]}
        changed = self.house.portal._call("PUT", address, body)
        self.house.settle()
        self.seen.facts["upgrade"] = {
            "now": preview["amountNowCents"],
            "next": preview["amountNextCents"],
            "lines": sorted(line["amountCents"] for line in preview["lines"])[:2],
            "carried out": changed["change"]["amountNowCents"],
            "same second": changed["change"]["prorationDate"] == preview["prorationDate"],
            "plan": self._subscription(self.house.a)["planId"],
        }

    def _dispute_before_payment(self) -> None:
        self.house.go_to("2028-03-03T09:00:00+00:00")
        dispute = self._dispute(self.house.a, "A-kept")
        decided = self.house.portal.post(
            f"{_BILLING}/disputes/{dispute['id']}/accept", {"decision": "They are right."}
        )["dispute"]
        self.house.settle()
        self.seen.facts["kept lead"] = {
            **self._after_dispute(decided),
            "left to pay": self._usage_invoice(self.house.a, "2028-02").amount_remaining,
        }
        self._pay_usage(self.house.a, "2028-02")
        self.house.settle()

    def _disputes_after_payment(self) -> None:
        self.house.go_to("2028-05-04T09:00:00+00:00")
        dispute = self._owner_disputes(self.house.a, "A-freed")
        body = {"decision": "They are right.", "freesLead": True, "settle": "refund"}
        decided = self.house.portal.post(f"{_BILLING}/disputes/{dispute['id']}/accept", body)["dispute"]
        refused = self._owner_disputes(self.house.b, "B-4")
        rejected = self.house.portal.post(
            f"{_BILLING}/disputes/{refused['id']}/reject", {"decision": "It did convert."}
        )["dispute"]
        self.house.settle()
        self.seen.facts["freed lead"] = self._after_dispute(decided)
        self.seen.facts["rejected"] = self._after_dispute(rejected)
        number = self._number_of_note(decided)
        self.seen.facts["told A"] = self._told(self.house.a, "accepted", number)
        self.seen.facts["told B"] = self._told(self.house.b, "rejected", "")
        self.house.happen(self.house.a, [*table.A_AGAIN])
        self.house.happen(self.house.b, [*table.B_LATE])

    def _failed_payment(self) -> None:
        self._card(self.house.b, "pm_card_chargeCustomerFail")
        self.house.go_to("2028-06-11T12:00:00+00:00")
        self._dun()
        self.seen.facts["B on 06-11"] = self._standing(self.house.b)
        self.house.go_to("2028-06-18T12:00:00+00:00")
        self._dun()
        self.seen.facts["B on 06-18"] = self._standing(self.house.b)
        self.house.go_to("2028-06-20T12:00:00+00:00")
        self._card(self.house.b, "pm_card_visa")
        (unpaid,) = self.house.provider_account.list_invoices(status="open")
        self.house.pay(unpaid)
        self.house.settle()
        self.seen.facts["B on 06-20"] = self._standing(self.house.b)
        self.seen.facts["dunning of June"] = self._steps(unpaid)

    def _downgrade(self) -> None:
        address = f"{_BILLING}/subscriptions/{self._subscription(self.house.a)['id']}"
        changed = self.house.portal._call("PUT", address, {"planId": "PRO"})
        self.seen.facts["downgrade"] = {
            "state": changed["change"]["state"],
            "now": changed["change"]["amountNowCents"],
            "at": changed["change"]["effectiveAt"],
            "plan until then": self._subscription(self.house.a)["planId"],
        }

    def _escalation(self) -> None:
        self.house.go_to("2028-10-23T12:00:00+00:00")
        self.seen.facts["overdue on 10-23"] = self._owed("2028-09")["overdueCents"]
        self.seen.facts["dunning by CLI"] = self.house.command("portal", "dunning").split()[-4:]
        self.seen.facts["B on 10-23"] = self._standing(self.house.b)
        self.house.go_to("2028-10-24T12:00:00+00:00")
        unpaid = self._usage_invoice(self.house.b, "2028-08")
        self._pay_usage(self.house.b, "2028-08")
        self.house.settle()
        self.seen.facts["B on 10-24"] = self._standing(self.house.b)
        self.seen.facts["dunning of August's usage"] = self._steps(unpaid)

    def _cancellation(self) -> None:
        self.house.command("portal", "subscriptions", "cancel", self.house.a.org)
        until = self._subscription(self.house.a)
        self.seen.facts["cancellation"] = {
            "status": until["status"],
            "at the end": until["cancelAtPeriodEnd"],
            "ends": until["currentPeriodEnd"],
        }

    # --- what comes back every month

    def _bill(self, label: str, day: str) -> None:
        """The run over the month that is over: planned by one person, approved by another, executed, paid."""
        self.house.go_to(f"{day}T09:00:00+00:00")
        if label == "2028-02":
            self._run_by_cli(label)
        else:
            self._run_by_api(label)
        for client in (self.house.a, self.house.b):
            left_open = (client is self.house.a and label == "2028-02") or (
                client is self.house.b and label in {"2028-01", "2028-08"}
            )
            if not left_open:
                self._pay_usage(client, label)
        if label == "2028-02":
            self._pay_usage(self.house.b, "2028-01")
        self.house.settle()
        if label in {"2028-01", "2028-08"}:  # with an open invoice in it
            self._look_on_the_way(label)

    def _run_by_api(self, label: str) -> None:
        run = self.house.portal.post(_RUNS, {"period": label})["run"]
        address = f"{_RUNS}/{run['id']}"
        self._until(address, {"planned"})
        plan_hash = self.house.portal.get(address)["run"]["planHash"]
        self.house.second_operator.post(f"{address}/approve", {"planHash": plan_hash})
        self.house.portal.post(f"{address}/execute")
        self._until(address, {"done"})
        self._note_run(label, run["id"])

    def _run_by_cli(self, label: str) -> None:
        self.house.command("portal", "billing", "plan", label)
        runs = self.house.portal.get(_RUNS, limit=1)["items"]
        plan_hash = runs[0]["planHash"]
        self.house.command("portal", "billing", "approve", label, "--hash", plan_hash, person="second")
        self.house.command("portal", "billing", "execute", label)
        self._note_run(label, runs[0]["id"])

    def _until(self, address: str, states: set[str]) -> None:
        def there() -> bool:
            return self.house.portal.get(address)["run"]["status"] in states

        wait_until(f"the run to be {states}", there, timeout=60)

    def _note_run(self, label: str, run_id: str) -> None:
        found = self.house.portal.get(f"{_RUNS}/{run_id}")
        items = {one["clientOrgId"]: one for one in self.house.portal.get(f"{_RUNS}/{run_id}/items")["items"]}
        self.seen.runs[label] = {
            "people": (found["run"]["plannedBy"], found["run"]["approvedBy"]),
            "states": found["report"]["states"],
            "lines": [_merged(items[client.org]["lines"]) for client in (self.house.a, self.house.b)],
            "stripe": [self._stripe_totals(client, label) for client in (self.house.a, self.house.b)],
        }

    def _month_end(self, label: str) -> None:
        last = datetime.fromisoformat(f"{label}-28T00:00:00+00:00").replace(
            day=_LAST[label[5:]] + (label == "2028-02")
        )
        self.house.go_to(f"{last:%Y-%m-%d}T20:00:00+00:00")
        self._dun()
        self.seen.months[label] = {
            "report": self._owed(label),
            "mrr": self._mrr(label),
            "ledger": self._ledger(),
            "stripe": self._stripe(label),
        }

    def _close(self) -> None:
        """At the end: the whole time again, and the three books of every month."""
        portal = self.house.portal
        self.seen.facts["plans"] = {
            "A": self._standing(self.house.a),
            "B": self._standing(self.house.b),
        }
        rows = portal.get("/api/provider/reports/owed", **{"from": "2027-12", "to": "2029-02"})["rows"]
        self.seen.facts["in the end"] = {row["key"]: row for row in rows}
        self.seen.facts["ledger"] = self._ledger()
        self.seen.facts["mails"] = self._mails()
        self.seen.reports = self._reconcile([*table.USAGE, "2029-02"])
        self.seen.facts["instance"] = {
            label: [self.house.book(client).usage(label) for client in (self.house.a, self.house.b)]
            for label in table.USAGE
        }

    def _reconcile(self, labels: list[str]) -> dict[str, dict[str, Any]]:
        """A report of each month, with its differences; they are made side by side."""
        path, portal = f"{_BILLING}/reconciliations", self.house.portal
        portal.post("/api/provider/fleet/sync")
        # The clock has just leapt, so that the mirrors are months behind until that is done.
        wait_until("the mirrors to be fresh", self._is_mirrored, timeout=60)
        started = {label: portal.post(path, {"period": label})["report"]["id"] for label in labels}
        wait_until(
            "the reconciliations to end",
            lambda: all(one["status"] in {"done", "failed"} for one in portal.get(path, limit=50)["items"]),
            timeout=60,
        )
        return {
            label: {**portal.get(f"{path}/{one}"), "rows": portal.get(f"{path}/{one}/rows")["items"]}
            for label, one in started.items()
        }

    def _is_mirrored(self) -> bool:
        return bool(self.house.portal.get("/api/provider/totals", by="client")["coverage"]["complete"])

    def _look_on_the_way(self, label: str) -> None:
        report = self._reconcile([label])[label]["report"]
        assert report["status"] == "done", report
        self.seen.facts.setdefault("reconciled on the way", {})[label] = report["differences"]

    # --- doing

    def _subscribe(self, client: InstancePlan, **more: Any) -> dict[str, Any]:
        body = {"clientOrgId": client.org, "planId": "PRO", "paymentMethodId": "pm_card_visa", **more}
        made: dict[str, Any] = self.house.portal.post(f"{_BILLING}/subscriptions", body)["subscription"]
        return made

    def _dispute(self, client: InstancePlan, lead: str) -> dict[str, Any]:
        body = {"clientOrgId": client.org, "leadId": lead, "claim": "That was no customer."}
        raised: dict[str, Any] = self.house.portal.post(f"{_BILLING}/disputes", body)["dispute"]
        return raised

    def _owner_disputes(self, client: InstancePlan, lead: str) -> dict[str, Any]:
        """Filed by the client itself, on its lead's page; the portal fetches it."""
        owner = Owner.signed_in(client.base_url, client.owner, client.password)
        found = re.search(rf'/leads/(\d+)">{lead}<', owner.sees(f"/leads?q={lead}"))
        assert found is not None, lead
        dispute = file_dispute(self.house, client, found[1], "That was no customer.")
        assert dispute["raisedBy"] == f"client:{client.org}"
        return dispute

    def _told(self, client: InstancePlan, state: str, number: str) -> tuple[str, ...]:
        """What the owner's own list says in the end, the credit note's number being the portal's."""
        owner = Owner.signed_in(client.base_url, client.owner, client.password)

        def told() -> dict[str, str] | None:
            row = owner.disputes()[0]
            return row if (row["state"], row["credit_note"]) == (state, number) else None

        row = wait_until(f"{client.name} to be told", told, timeout=30)
        return row["lead"], row["state"], row["decision"], row["lead_freed"]

    def _number_of_note(self, dispute: dict[str, Any]) -> str:
        invoice = self.house.portal.get(f"{_BILLING}/receivables/{dispute['stripeInvoiceId']}")["invoice"]
        (number,) = [one["number"] for one in invoice["creditNotes"] if one["id"] == dispute["creditNoteId"]]
        assert number, "it is in Stripe"
        return str(number)

    def _dun(self) -> None:
        self.house.portal.post(f"{_BILLING}/dunning")

    def _card(self, client: InstancePlan, card: str) -> None:
        """Another card for what is charged next, set as Stripe's own pages would: with the bare SDK."""
        sdk = stripe.StripeClient(
            self.house.plan.provider_stripe_key, base_addresses={"api": self.house.plan.stripe_url}
        )
        subscription = str(self._subscription(client)["stripeSubscriptionId"])
        customer = str(sdk.v1.subscriptions.retrieve(subscription).customer)
        method = sdk.v1.payment_methods.attach(card, {"customer": customer})
        sdk.v1.subscriptions.update(subscription, {"default_payment_method": method.id})
        self.house.settle()

    def _pay_usage(self, client: InstancePlan, label: str) -> None:
        found = [one for one in self._usage_invoices(client, label) if one.status == "open"]
        for invoice in found:
            self.house.pay(invoice)

    # --- looking

    def _subscription(self, client: InstancePlan) -> dict[str, Any]:
        found = self.house.portal.get(f"{_BILLING}/subscriptions", clientOrgId=client.org)["items"]
        newest: dict[str, Any] = found[0]
        return newest

    def _usage_invoices(self, client: InstancePlan, label: str) -> list[StripeInvoice]:
        rows = self.house.portal.get(f"{_BILLING}/invoices", clientOrgId=client.org, period=label)["items"]
        return [self.house.provider_account.retrieve_invoice(row["stripeInvoiceId"]) for row in rows]

    def _stripe_totals(self, client: InstancePlan, label: str) -> list[int]:
        """The amounts of the lines in Stripe, in their order."""
        return [
            line.amount
            for one in self._usage_invoices(client, label)
            for line in one.lines
            if one.status != "void"
        ]

    def _usage_invoice(self, client: InstancePlan, label: str) -> StripeInvoice:
        (found,) = self._usage_invoices(client, label)
        return found

    def _after_dispute(self, dispute: dict[str, Any]) -> dict[str, Any]:
        invoice = self.house.portal.get(f"{_BILLING}/receivables/{dispute['stripeInvoiceId']}")["invoice"]
        return {
            "state": dispute["state"],
            "freed": dispute["leadFreed"],
            "credited": sum(
                note["totalCents"]
                for note in invoice["creditNotes"]
                if note["id"] == dispute["creditNoteId"] and note["state"] == "issued"
            ),
            "refunded": sum(one["amountCents"] for one in invoice["refunds"]),
        }

    def _standing(self, client: InstancePlan) -> tuple[str, str, str]:
        """The subscription's status, and the entitlement as the portal and the instance know it."""
        path = "/api/provider/billing/entitlements"
        told = partial(self.house.portal.get, path, clientOrgId=client.org)
        wait_until("the instance to confirm", lambda: told()["items"][0]["acknowledged"], timeout=30)
        knows = self.house.book(client).get("/api/federation/entitlements")
        here = told()["items"][0]
        assert (here["planId"], here["state"]) == (knows["plan"], knows["state"])
        return self._subscription(client)["status"], knows["plan"], knows["state"]

    def _steps(self, invoice: StripeInvoice) -> list[tuple[str, str, int]]:
        found = self.house.portal.get(f"{_BILLING}/receivables/{invoice.id}")["invoice"]["dunning"]
        return [(one["step"], one["state"], one["amountRemainingCents"]) for one in found]

    def _owed(self, label: str) -> dict[str, Any]:
        """Of one month, with outstanding and overdue of all time until then."""
        window = {"from": label, "to": label}
        rows = self.house.portal.get("/api/provider/reports/owed", **window)["rows"]
        whole = self.house.portal.get("/api/provider/reports/owed", **{"from": "2027-12", "to": label})
        figures = dict(rows[0])
        figures |= {name: whole["totals"][0][name] for name in ("outstandingCents", "overdueCents")}
        kinds = self.house.portal.get("/api/provider/reports/revenue", **window)["rows"][0]
        return figures | {"kinds": kinds}

    def _mrr(self, label: str) -> dict[str, Any]:
        rows = self.house.portal.get("/api/provider/reports/mrr", **{"from": label, "to": label})["rows"]
        row: dict[str, Any] = rows[0]
        return row

    def _ledger(self) -> dict[str, Any]:
        (totals,) = self.house.portal.get(f"{_BILLING}/ledger")["totals"]
        found: dict[str, Any] = totals
        return found

    def _stripe(self, label: str) -> dict[str, int]:
        """The same figures from the account's own invoices, by the SDK."""
        everything = self.house.provider_account.list_invoices()
        final = [one for one in everything if one.status in {"open", "paid", "uncollectible"}]
        ours = [one for one in final if one.finalized_at and _month_of(one.finalized_at) == label]
        return {
            "fees": sum(one.total for one in ours if one.subscription_id),
            "usage": sum(one.total for one in ours if not one.subscription_id),
            "paid": sum(one.amount_paid for one in ours),
            "credited": sum(one.credited_unpaid + one.credited_paid for one in ours),
            "outstanding": sum(one.amount_remaining for one in final if one.status == "open"),
        }

    def _mails(self) -> list[str]:
        said = self.house.log("portal") + self.house.log("worker")
        return [
            line.partition(": ")[2].partition(": ")[2]
            for line in said.splitlines()
            if line.startswith("Subject: ")
        ]


_LAST = dict(
    zip([f"{n:02}" for n in range(1, 13)], [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], strict=True)
)


def _month_of(at: datetime) -> str:
    return f"{at.astimezone(ZoneInfo(ZONE)):%Y-%m}"


def _merged(lines: list[dict[str, Any]]) -> list[table.Line]:
    """The leads of one month together, then AI usage: as the table writes it."""
    sums: dict[tuple[str, str], table.Line] = {}
    for line in lines:
        key = line["kind"], line["lateFor"]
        before = sums.get(key, table.Line(line["kind"], 0, 0, line["lateFor"]))
        quantity = before.quantity + line["quantity"]
        sums[key] = table.Line(line["kind"], quantity, before.cents + line["amountCents"], line["lateFor"])
    return list(sums.values())
