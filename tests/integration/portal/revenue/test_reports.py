"""The reports' figures, each written out by hand; their coverage, their CSV, their currencies."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import uuid4

import pytest
from django.test import Client

from provider_federation.kit import clock
from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.operators.services import create_token
from provider_federation.portal.receivables.ledger import ledger_totals
from provider_federation.portal.receivables.models import Refund
from provider_federation.portal.reports import queries
from provider_federation.portal.reports.queries.owed import totals
from provider_federation.portal.reports.window import window_asked
from provider_federation.portal.revenue.models import StripeEvent, UsageInvoice, UsageLine, UsageSnapshot
from provider_federation.portal.subscriptions.models import PlanChange, Subscription, SubscriptionInvoice

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


@pytest.fixture
def at(clock_file, monkeypatch):
    monkeypatch.setenv(clock.CLOCK_VARIABLE, str(clock_file))
    clock.set_clock(clock_file, at=NOW)


def day(month: int, number: int = 1, hour: int = 12) -> datetime:
    return datetime(2026, month, number, hour, tzinfo=UTC)


def client_named(name: str, currency: str = "usd") -> Instance:
    return Instance.objects.create(
        name=name,
        title=name.title(),
        org_id=f"org_{name}",
        base_url="http://127.0.0.1:1",
        currency=currency,
        created_at=NOW,
        updated_at=NOW,
    )


def usage_invoice(instance, month, *, leads=0, ai=0, status="open", currency="usd", **more):
    total = leads * 10_000 + ai + more.get("tax_cents", 0)
    paid = total if status == "paid" else more.get("paid_cents", 0)
    figures = {
        "total_cents": total,
        "due_cents": total,
        "paid_cents": paid,
        "remaining_cents": 0 if status == "paid" else total - paid,
        "finalized_at": day(month, 2),
        "due_at": day(month, 28),
        **more,
    }
    row = UsageInvoice.objects.create(
        instance=instance,
        order_key=str(uuid4()),
        period=f"2026-{month - 1:02}",
        period_start=day(month - 1),
        period_end=day(month),
        plan="PRO",
        usage_digest="",
        asked_by="tests",
        created_at=day(month, 2),
        updated_at=day(month, 2),
        status=status,
        currency=currency,
        stripe_invoice_id=f"in_{uuid4().hex}",
        **figures,
    )
    if leads:
        line(row, 1, "leads", leads, leads * 10_000)
    if ai:
        line(row, 2, "ai", 1, ai)
    return row


def line(row, position, kind, quantity, cents, **more):
    UsageLine.objects.create(
        invoice=row,
        position=position,
        kind=kind,
        description=kind,
        quantity=quantity,
        amount_cents=cents,
        **more,
    )


def fee(instance, month, cents, **more):
    subscription, _ = Subscription.objects.get_or_create(
        instance=instance,
        defaults={
            "plan": "PRO",
            "status": "active",
            "fee_cents": cents,
            "currency": instance.currency,
            "created_at": NOW,
            "updated_at": NOW,
        },
    )
    return SubscriptionInvoice.objects.create(
        instance=instance,
        subscription=subscription,
        billed_at=day(month),
        finalized_at=day(month),
        stripe_invoice_id=f"in_{uuid4().hex}",
        currency=instance.currency,
        **{
            "status": "paid",
            "total_cents": cents,
            "due_cents": cents,
            "paid_cents": cents,
            **more,
        },
    )


def test_billed_paid_collected_outstanding_and_overdue_are_told_apart(at):
    ada, bob = client_named("ada"), client_named("bob")
    fee(ada, 3, 9_700)
    fee(bob, 3, 9_700, off_stripe_cents=9_700)  # paid by bank transfer: paid, and not cash of the account
    usage_invoice(ada, 3, leads=2, status="paid", credited_paid_cents=10_000)
    usage_invoice(bob, 3, leads=1, ai=500)  # due on 28 March: overdue
    usage_invoice(bob, 6, leads=1, due_at=day(7))  # open, not due yet
    usage_invoice(bob, 4, leads=3, status="uncollectible")
    usage_invoice(bob, 5, leads=9, status="void")
    refunded = UsageInvoice.objects.get(instance=ada)
    Refund.objects.create(
        instance=ada,
        usage_invoice=refunded,
        state="succeeded",
        currency="usd",
        amount_cents=10_000,
        payment_intent="pi_1",
        asked_by="tests",
        created_at=NOW,
    )
    rows = queries.owed(window_asked("2026-03", "2026-06"), "month")
    march = next(row.owed for row in rows if row.key == "2026-03")
    assert (march.invoices, march.gross, march.credited, march.billed) == (4, 49_900, 10_000, 39_900)
    assert (march.paid, march.off_stripe, march.refunded, march.collected) == (39_400, 9_700, 10_000, 19_700)
    assert (march.outstanding, march.overdue, march.written_off) == (10_500, 10_500, 0)
    every = totals(rows)["usd"]
    assert (every.outstanding, every.overdue, every.written_off) == (20_500, 10_500, 30_000)
    for by in ("client", "kind"):
        assert totals(queries.owed(window_asked("2026-03", "2026-06"), by))["usd"] == every
    assert [row.label for row in queries.owed(window_asked("2026-03", "2026-06"), "client")] == ["Ada", "Bob"]
    assert ledger_totals()["usd"] == every
    alone = queries.owed(window_asked("2026-03", "2026-03"), "kind", client=ada)
    assert {row.key: row.owed.gross for row in alone} == {"subscription": 9_700, "usage": 20_000}


def test_the_ledger_and_the_report_say_the_same(at):
    """Credit notes before and after payment, refunds, money outside of Stripe and over the balance, a write-off."""
    ada, bob = client_named("ada"), client_named("bob")
    fee(ada, 3, 9_700)
    fee(bob, 4, 9_700, off_stripe_cents=9_700)
    fee(
        bob, 5, 9_700, status="open", paid_cents=0, remaining_cents=9_700
    )  # no due date: due when it is final
    paid = usage_invoice(ada, 3, leads=4, status="paid", credited_paid_cents=10_000)
    usage_invoice(ada, 4, leads=3, credited_unpaid_cents=10_000, remaining_cents=20_000)
    usage_invoice(bob, 4, ai=30, status="paid", paid_cents=0)  # below the minimum charge
    usage_invoice(bob, 5, leads=3, status="uncollectible")
    usage_invoice(bob, 6, leads=9, status="void")
    for state, cents in (("succeeded", 10_000), ("pending", 500), ("failed", 7_000), ("refused", 7_000)):
        Refund.objects.create(
            instance=ada,
            usage_invoice=paid,
            state=state,
            currency="usd",
            amount_cents=cents,
            payment_intent="pi_1",
            asked_by="tests",
            created_at=NOW,
        )
    _, secret = create_token(name="tests", role="billing", actor="system")
    caller = Client(headers={"Authorization": f"Bearer {secret}"})
    for org, by_hand in {
        "": {
            "grossCents": 129_130,
            "billedCents": 109_130,
            "paidCents": 59_400,
            "offStripeCents": 9_700,
            "refundedCents": 10_500,
            "collectedCents": 39_200,
            "outstandingCents": 29_700,
            "overdueCents": 29_700,
            "writtenOffCents": 30_000,
        },
        "org_ada": {"grossCents": 79_700, "billedCents": 59_700, "collectedCents": 39_200},
    }.items():
        client = f"clientOrgId={org}&" if org else ""
        (ledger,) = caller.get(f"/api/provider/billing/ledger?{client}").json()["totals"]
        report = caller.get(f"/api/provider/reports/owed?{client}from=2026-01&to=2026-06").json()
        (total,) = report["totals"]
        assert {name: ledger[name] for name in by_hand} == by_hand
        shared = ledger.keys() & total.keys()
        assert len(shared) == 12
        assert {name: ledger[name] for name in shared} == {name: total[name] for name in shared}
    assert ledger["creditedUnpaidCents"] + ledger["creditedPaidCents"] == 20_000


def test_revenue_by_kind_adds_up_to_what_was_billed(at):
    ada = client_named("ada")
    fee(ada, 3, 11_700, tax_cents=2_000)
    usage_invoice(ada, 3, leads=2, ai=735, tax_cents=400, credited_unpaid_cents=500)
    window = window_asked("2026-01", "2026-06")
    (row,) = queries.revenue_by_kind(window, "month")
    kinds = row.kinds
    assert (kinds.subscription, kinds.leads, kinds.lead_count, kinds.ai) == (9_700, 20_000, 2, 735)
    assert (kinds.tax, kinds.credited, kinds.total) == (2_400, 500, 32_335)
    assert kinds.total == totals(queries.owed(window, "month"))["usd"].billed
    (client,) = queries.revenue_by_kind(window, "client")
    assert (client.key, client.kinds) == ("org_ada", kinds)


def test_currencies_stand_side_by_side(at):
    ada, jun = client_named("ada"), client_named("jun", "jpy")
    usage_invoice(ada, 3, leads=1)
    usage_invoice(jun, 3, leads=1, currency="jpy")
    found = totals(queries.owed(window_asked("2026-03", "2026-03"), "kind"))
    assert {code: one.gross for code, one in found.items()} == {"usd": 10_000, "jpy": 10_000}
    kinds = queries.revenue_by_kind(window_asked("2026-03", "2026-03"), "month")
    assert [row.currency for row in kinds] == ["jpy", "usd"]


def test_months_are_the_billing_zones(at, settings):
    settings.PROVIDER_TIME_ZONE = "America/New_York"
    ada = client_named("ada")
    usage_invoice(
        ada, 3, leads=1, finalized_at=datetime(2026, 4, 1, 3, 59, tzinfo=UTC)
    )  # 31 March, 23:59 there
    usage_invoice(ada, 4, leads=2, finalized_at=datetime(2026, 4, 1, 4, 0, tzinfo=UTC))  # midnight: April
    found = {row.key: row.owed.gross for row in queries.owed(window_asked("2026-03", "2026-04"), "month")}
    assert found == {"2026-03": 10_000, "2026-04": 20_000}


def plan(instance, plan_code, at, subscription=None):
    PlanChange.objects.create(
        instance=instance,
        subscription=subscription,
        plan=plan_code,
        effective_at=at,
        recorded_at=at,
        reason="tests",
    )


def test_mrr_moves_by_new_expansion_contraction_churn_and_reactivation(at):
    ada, bob, cyd = client_named("ada"), client_named("bob"), client_named("cyd")
    plan(ada, "PRO", day(1, 10))  # new in January
    plan(ada, "ELITE", day(2, 10))  # expansion
    plan(ada, "PRO", day(3, 10))  # contraction
    plan(ada, "BASE", day(4, 10))  # churn
    plan(ada, "PRO", day(6, 1, 0))  # reactivation at midnight: June's
    plan(bob, "PRO", day(2, 3))
    plan(bob, "BASE", day(2, 20))  # came and went within the month: no movement
    trial = Subscription.objects.create(
        instance=cyd,
        plan="ELITE",
        status="active",
        fee_cents=29_700,
        currency="usd",
        trial_end=day(4, 5),
        created_at=NOW,
        updated_at=NOW,
    )
    plan(cyd, "ELITE", day(3, 22), trial)  # on trial until 5 April: new in April
    rows = {row.month: row.movement for row in queries.mrr(window_asked("2026-01", "2026-06"))}
    assert {month: one.closing for month, one in rows.items()} == {
        "2026-01": 9_700, "2026-02": 29_700, "2026-03": 9_700, "2026-04": 29_700, "2026-05": 29_700, "2026-06": 39_400,
    }  # fmt: skip
    assert rows["2026-01"].new == 9_700
    assert rows["2026-02"].expansion == 20_000
    assert rows["2026-03"].contraction == -20_000
    assert (rows["2026-04"].churn, rows["2026-04"].new) == (-9_700, 29_700)
    assert (rows["2026-06"].reactivation, rows["2026-06"].clients) == (9_700, 2)
    months = list(rows.values())
    assert all(one.closing == other.opening for one, other in pairwise(months))
    later = queries.mrr(window_asked("2026-06", "2026-06"))[0].movement
    assert later == rows["2026-06"]  # the same month, told without those before it


def test_ai_cost_against_what_was_billed_for_it(at):
    ada = client_named("ada")
    for period, cost in (("2026-02", "70.125"), ("2026-03", "0.004")):
        UsageSnapshot.objects.create(
            instance=ada, period=period, usage={"aiCost": cost, "currency": "usd"}, digest="", seen_at=NOW
        )
    usage_invoice(ada, 3, ai=4_000)
    late = usage_invoice(ada, 4, leads=1)
    line(late, 2, "ai", 1, 1_000, late_for="2026-02")  # February's, billed with March: to the cap of $50
    february, march = queries.ai_usage(window_asked("2026-02", "2026-03"), "month")
    assert (february.key, february.usage.cost_cents, february.usage.billed) == ("2026-02", 7_013, 5_000)
    assert february.usage.absorbed == 2_013
    assert (march.key, march.usage.cost_cents, march.usage.billed) == ("2026-03", 0, 0)
    (client,) = queries.ai_usage(window_asked("2026-02", "2026-03"), "client")
    assert (client.label, str(client.usage.cost.normalize())) == ("Ada", "70.129")


def test_every_total_carries_its_coverage(at, api):
    ada = client_named("ada")
    usage_invoice(ada, 3, leads=1, status="held", finalized_at=None)
    StripeEvent.objects.create(
        event_id="evt_1",
        type="invoice.paid",
        livemode=False,
        payload="{}",
        received_at=NOW - timedelta(hours=1),
        state="parked",
    )
    for name in ("owed", "revenue", "mrr", "ai"):
        answer = api.get(f"/api/provider/reports/{name}").json()
        coverage = answer["coverage"]
        assert coverage["complete"] is False
        assert (coverage["clients"]["answered"], coverage["clients"]["of"]) == (0, 1)
        assert (coverage["held"], coverage["events"]["parked"], coverage["reconciled"]) == (1, 1, None)
        assert answer["period"]["label"] == "2025-07 to 2026-06"


def test_threat_133_no_cell_of_a_report_is_a_formula_and_numbers_stay_numbers(at, api):
    ada = client_named("ada")
    Instance.objects.filter(pk=ada.pk).update(title="=HYPERLINK(1)", org_id="+org")
    usage_invoice(ada, 3, leads=1, credited_unpaid_cents=20_000)
    answer = api.get("/api/provider/reports/owed.csv?by=client&from=2026-01")
    rows = list(csv.reader(io.StringIO(answer.content.decode())))
    figures = dict(zip(rows[0], rows[1], strict=True))
    assert (figures["key"], figures["label"]) == ("'+org", "'=HYPERLINK(1)")
    assert figures["billed (minor units)"] == "-10000"  # a number, and left one
    assert any("Clients synced: 0 of 1" in row[0] for row in rows)
    assert AuditEvent.objects.filter(kind="export.made", subject="report:owed").count() == 1
    for name in ("revenue", "mrr", "ai"):
        assert api.get(f"/api/provider/reports/{name}.csv").status_code == 200


@pytest.mark.parametrize("word", ["' OR 1=1 --", "%", "instance__name", "-month", "kind; DROP TABLE"])
def test_threat_134_groupings_and_months_come_from_a_list(at, api, word):
    for query in ({"by": word}, {"from": word[:7]}, {"sort": word}):
        answer = api.get("/api/provider/reports/owed", query)
        assert answer.status_code == 400
        assert answer.json()["reason"] in {"invalid_field", "bad_date", "unknown_field"}
    assert api.get("/api/provider/reports/owed", {"clientOrgId": word}).status_code == 404


def test_windows_are_bounded(at, api):
    for query in ("from=2026-07&to=2026-06", "from=2001-01", "from=2026-13", "to=x"):
        assert api.get(f"/api/provider/reports/mrr?{query}").json()["reason"] in {"bad_date", "invalid_field"}
