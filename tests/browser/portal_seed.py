"""A portal's tables with believable contents, for pages: three healthy clients, one that is away, months of invoices.

Imported by the page tests; run as a program it fills the database of DATABASE_URL. Rows that come from outside
(mirrored invoices, Stripe's answers) are written as the sync and the webhook would have left them.
"""

from __future__ import annotations

import json
import random
import secrets
from datetime import datetime, timedelta
from typing import Any

PASSWORD = "correct horse battery staple"
ADMIN, BILLING, SUPPORT = "ada@provider.example", "bo@provider.example", "sam@provider.example"
_CUSTOMERS = (
    "Nordwind Logistics",
    "Café Blau",
    "Harbour & Sons",
    "Okafor Plumbing",
    "Lindqvist Interiors",
    "O'Neill Roofing",
)
_CLIENTS = (
    ("acme", "Acme Home Services", "sha256", "sha256", "PRO"),
    ("bluefin", "Bluefin Marketing GmbH", "sha256", "sha256", "ELITE"),
    ("cedar", "Cedar & Sons Contractors of the Greater Region", "h31", "h31", "BASE"),
    ("drift", "Driftwood Studios", "sha256", "sha256", "PRO"),
)


def fill(*, base_url: str = "http://127.0.0.1:18999") -> dict[str, Any]:
    """Everything; returns the rows that tests ask for by name."""
    people()
    instances = [_instance(one, base_url) for one in _CLIENTS]
    _break(instances[3])
    for at, instance in enumerate(instances):
        _mirror(instance, at)
    run = _run(instances)
    subscriptions = [
        _subscription(instance, one[4]) for instance, one in zip(instances, _CLIENTS, strict=True)
    ]
    usage = _usage(instances)
    event = _events()
    billing_run = _billing_run(instances)
    return {
        "instances": instances,
        "run": run,
        "subscriptions": [one for one in subscriptions if one],
        "usage": usage,
        "event": event,
        "billing_run": billing_run,
        "dispute": _dispute(usage[0]),
        "reconciliation": _reconciliation(instances, usage),
        "billing_item": billing_run.items.order_by("pk").first(),
    }


def _reconciliation(instances: list[Any], usage: list[Any]) -> Any:
    """A report of last month: one client did not answer, three differences, one of them repaired."""
    from provider_federation.portal.reconciliation.models import (
        InstanceAnswer,
        ReconciliationReport,
        ReconciliationRow,
    )

    now = _now()
    figures = {"usd": {"gross": 61_234, "billed": 61_234, "paid": 31_234, "outstanding": 30_000}}
    stripe = {"usd": {**figures["usd"], "paid": 61_234, "outstanding": 0}}
    report = ReconciliationReport.objects.create(
        period=usage[0].period, status="done", requested_by=f"operator:{BILLING}", created_at=now,
        ledger_at=now, finished_at=now, figures={"portal": figures, "stripe": stripe},
    )  # fmt: skip
    for number, instance in enumerate(instances):
        InstanceAnswer.objects.create(
            report=report, instance=instance, state="failed" if number == 1 else "answered", at=now,
            code="timed_out" if number == 1 else "", sentence="It did not answer in time." if number == 1 else "",
        )  # fmt: skip
    rows = (
        (
            "status",
            "PF-0000 has two states: open in the portal, paid in Stripe.",
            "open",
            "paid",
            "refetch",
            0,
        ),
        (
            "line_amount",
            "PF-0000, “3 converted leads”: 30000 in the portal, 29900 in Stripe.",
            30_000,
            29_900,
            "",
            100,
        ),
        (
            "mirror_differs",
            "The invoice 7 of Acme: 100 in the mirror, 200 at the instance.",
            100,
            None,
            "resync",
            0,
        ),
    )
    for number, (kind, message, here, there, repair, gap) in enumerate(rows):
        ReconciliationRow.objects.create(
            report=report, instance=instances[0], kind=kind, subject=f"usage_invoice:{number}", message=message,
            portal=here, stripe=there, repair=repair, gap_cents=gap, currency="usd" if gap else "",
            repaired_at=now if repair == "resync" else None, target="in_usage_0",
            repair_note="Its invoices are read again from the beginning." if repair == "resync" else "",
        )  # fmt: skip
    return report


def _dispute(invoice: Any) -> Any:
    """The leads of an invoice, one of which the client does not want to pay for."""
    from provider_federation.portal.receivables.models import LeadDispute
    from provider_federation.portal.revenue.models import LeadCharge

    charges = [
        LeadCharge.objects.create(
            instance=invoice.instance, line=invoice.lines.get(kind="leads"), lead_id=f"l{number}",
            lead_public_id=f"L-{number}", converted_at=invoice.period_start + timedelta(days=number),
            amount_cents=10_000, evidence=f"sha256:{number:064x}",
        )
        for number in (1, 2, 3)
    ]  # fmt: skip
    return LeadDispute.objects.create(
        charge=charges[0], claim="This was a customer of ours before.", raised_by=f"operator:{BILLING}",
        raised_at=_now(),
    )  # fmt: skip


def _billing_run(instances: list[Any]) -> Any:
    """A plan of last month that waits for approval, with one client held."""
    from provider_federation.portal.billing_runs.models import BillingPlanItem, BillingRun
    from provider_federation.portal.billing_runs.services import hash_plan
    from provider_federation.portal.revenue.periods import month_now

    period, now = month_now().previous(), _now()
    run = BillingRun.objects.create(
        period=period.label, period_start=period.start, period_end=period.end, status="planned",
        planned_by=f"operator:{BILLING}", created_at=now, planned_at=now,
    )  # fmt: skip
    line = {
        "kind": "leads", "description": f"3 converted leads in {period.label}, $100.00 each", "quantity": 3,
        "unitPriceCents": 10_000, "amountCents": 30_000, "lateFor": "", "evidence": {"leads": 3},
        "leads": [[f"l{n}", f"L-{n}", f"{period.label}-0{n}T08:00:00Z", f"sha256:{n:064x}"] for n in (1, 2, 3)],
    }  # fmt: skip
    ai = {
        "kind": "ai", "description": f"AI usage, {period.label}", "quantity": 1, "unitPriceCents": None,
        "amountCents": 1234, "lateFor": "", "evidence": {"cost": "12.34", "calls": 40}, "leads": [],
    }  # fmt: skip
    for number, instance in enumerate(instances):
        held = number == 1
        BillingPlanItem.objects.create(
            run=run, instance=instance, currency=instance.currency, plan="PRO", updated_at=now,
            state="held" if held else "ready", lines=[] if held else [line, ai],
            total_cents=0 if held else 31_234, previous_cents=20_000 + number * 500,
            hold_code="usage_jump" if held else "",
            hold_reason=f"412 leads after 3 in {period.previous().label}." if held else "",
        )  # fmt: skip
    run.plan_hash = hash_plan(run)
    run.save(update_fields=["plan_hash"])
    return run


def people() -> None:
    from provider_federation.portal.operators.services import add_operator

    for email, role, name in (
        (ADMIN, "admin", "Ada Byron"),
        (BILLING, "billing", "Bo Lind"),
        (SUPPORT, "support", "Sam Ito"),
    ):
        add_operator(email=email, password=PASSWORD, role=role, name=name)


def _now() -> datetime:
    from provider_federation.kit import clock

    return clock.now()


def _instance(client: tuple[str, str, str, str, str], base_url: str) -> Any:
    from provider_federation.portal.directory.keys import NewKey, seal_key
    from provider_federation.portal.directory.models import Instance

    name, title, mode, algorithm, _plan = client
    now = _now()
    instance = Instance.objects.create(
        name=name,
        title=title,
        base_url=base_url,
        org_id=f"org_{name}",
        environment="production",
        billing_email=f"billing@{name}.example",
        created_at=now - timedelta(days=400),
        updated_at=now,
        checked_at=now - timedelta(minutes=2),
        check_ok=True,
        check_code="ok",
        check_message="It answers.",
        clock_offset_ms=12,
        remote_mode=mode,
        remote_version="0.1.0",
    )
    key = NewKey(id=f"{name}-key-1", secret=secrets.token_urlsafe(32), algorithm=algorithm)
    seal_key(instance, key).save(force_insert=True)
    return instance


def _break(instance: Any) -> None:
    instance.check_ok, instance.check_code = False, "connect_failed"
    instance.check_message = "The connection was refused."
    instance.save()


def _mirror(instance: Any, at: int) -> None:
    from provider_federation.portal.fleet.models import ClientInvoice, SyncState

    chance, now = random.Random(at), _now()
    fresh = instance.check_ok
    SyncState.objects.create(
        instance=instance,
        epoch="e1",
        cursor="c1",
        rebuilding=False,
        due_at=now + timedelta(days=1),
        synced_at=now - timedelta(seconds=20) if fresh else now - timedelta(hours=5),
        attempted_at=now,
        failures=0 if fresh else 4,
        last_outcome="ok" if fresh else "connect_failed",
        last_sentence="" if fresh else "The connection was refused.",
    )
    rows = []
    for number in range(1, 41):
        created = now - timedelta(days=chance.randint(0, 330), hours=chance.randint(0, 23))
        status = chance.choices(["paid", "open", "draft", "void", "uncollectible"], [60, 20, 12, 4, 4])[0]
        total = 10_000 * chance.randint(1, 9)
        rows.append(
            ClientInvoice(
                instance=instance,
                remote_id=f"inv_{number}",
                number="" if status == "draft" else f"{instance.name.upper()}-{number:05d}",
                customer_id=f"c{number % 6}",
                customer_name=_CUSTOMERS[number % 6],
                customer_email=f"accounts@customer{number % 6}.example",
                status=status,
                currency="usd",
                subtotal_cents=total,
                tax_cents=0,
                total_cents=total,
                amount_paid_cents=total if status == "paid" else 0,
                created_at=created,
                updated_at=created,
                hosted_invoice_url="" if status == "draft" else "https://invoice.example/i/1",
                seq=number,
                generation=1,
            )
        )
    ClientInvoice.objects.bulk_create(rows)


def _run(instances: list[Any]) -> Any:
    from provider_federation.portal.fleet.models import FleetCall, FleetRun

    now = _now()
    run = FleetRun.objects.create(
        action="preview",
        params={"range": "d30"},
        requested_by=f"operator:{BILLING}",
        status="done",
        created_at=now - timedelta(hours=1),
        started_at=now - timedelta(hours=1),
        finished_at=now - timedelta(minutes=59),
    )
    for instance in instances:
        ok = instance.check_ok
        FleetCall.objects.create(
            run=run,
            instance=instance,
            status="ok" if ok else "failed",
            outcome="answered" if ok else "unreachable",
            code="" if ok else "connect_failed",
            sentence="" if ok else "The connection was refused.",
            attempt=1,
            result={
                "count": 3,
                "totalCents": 30000,
                "currency": "usd",
                "lines": [{"leadPublicId": "L-1", "when": "2026-01-03", "amountCents": 10000}],
            }
            if ok
            else {},
            idempotency_key=f"key-{instance.name}",
            started_at=now - timedelta(hours=1),
            finished_at=now - timedelta(minutes=59, seconds=58),
        )
    return run


def _subscription(instance: Any, plan: str) -> Any:
    from provider_federation.money import find_plan
    from provider_federation.portal.subscriptions.models import PlanChange, Subscription, SubscriptionInvoice

    if plan == "BASE":
        return None
    now, since = _now(), _now() - timedelta(days=200)
    fee = find_plan(plan).fee_cents
    incomplete = instance.name == "drift"
    row = Subscription.objects.create(
        instance=instance,
        plan=plan,
        status="incomplete" if incomplete else "active",
        fee_cents=fee,
        currency="usd",
        stripe_subscription_id=f"sub_{instance.name}",
        created_at=since,
        updated_at=now,
        current_period_start=now - timedelta(days=10),
        current_period_end=now + timedelta(days=20),
        hosted_invoice_url="https://invoice.example/i/sub" if incomplete else "",
    )
    PlanChange.objects.create(
        instance=instance,
        subscription=row,
        plan=plan,
        effective_at=since,
        recorded_at=since,
        reason="created",
    )
    for month in range(0 if incomplete else 7):
        billed = now - timedelta(days=30 * month)
        SubscriptionInvoice.objects.create(
            instance=instance,
            subscription=row,
            status="paid",
            billed_at=billed,
            currency="usd",
            total_cents=fee,
            paid_cents=fee,
            stripe_invoice_id=f"in_{instance.name}_{month}",
            number=f"SUB-{instance.name}-{month}",
            finalized_at=billed,
            due_cents=fee,
        )
    return row


def _usage(instances: list[Any]) -> list[Any]:
    from provider_federation.portal.revenue.models import UsageInvoice, UsageLine
    from provider_federation.portal.revenue.periods import month_now

    made, month = [], month_now().previous()
    for at, (instance, status) in enumerate(zip(instances[:3], ("open", "paid", "held"), strict=True)):
        held = status == "held"
        total = 0 if held else 30_000 + 1_234 * at
        row = UsageInvoice.objects.create(
            instance=instance,
            order_key=f"usage:{instance.pk}:1",
            period=month.label,
            period_start=month.start,
            period_end=month.end,
            status=status,
            plan="PRO",
            currency="usd",
            total_cents=total,
            due_cents=total,
            usage_digest="0" * 64,
            paid_cents=total if status == "paid" else 0,
            remaining_cents=total if status == "open" else 0,
            number="" if held else f"PF-000{at}",
            stripe_invoice_id=None if held else f"in_usage_{at}",
            hold_code="usage_jump" if held else "",
            hold_reason="Leads went from 3 to 912." if held else "",
            finalized_at=None if held else _now(),
            asked_by=f"operator:{BILLING}",
            created_at=_now(),
            updated_at=_now(),
        )
        if not held:
            UsageLine.objects.create(
                invoice=row,
                position=1,
                kind="leads",
                description=f"3 converted leads in {month.label}, $100.00 each",
                quantity=3,
                unit_price_cents=10_000,
                amount_cents=30_000,
            )
            UsageLine.objects.create(
                invoice=row,
                position=2,
                kind="ai",
                description="AI usage",
                quantity=1,
                amount_cents=total - 30_000,
            )
        made.append(row)
    return made


def _events() -> Any:
    from provider_federation.portal.revenue.alerts import raise_alert
    from provider_federation.portal.revenue.models import StripeEvent

    for at, state in enumerate(("applied", "applied", "ignored", "parked", "pending")):
        StripeEvent.objects.create(
            event_id=f"evt_{at}",
            type="invoice.paid" if at % 2 else "customer.subscription.updated",
            livemode=False,
            object_id=f"in_{at}",
            payload=json.dumps({"data": {"object": {"id": f"in_{at}", "status": "open"}}}),
            received_at=_now() - timedelta(minutes=at),
            attempts=1,
            state=state,
            error="Stripe: the API key is not accepted" if state == "parked" else "",
        )
    raise_alert("unknown_customer", "cus_unknown", "An event for a customer that no client has: cus_unknown.")
    return StripeEvent.objects.get(state="parked")


if __name__ == "__main__":
    import django

    django.setup()
    fill()
