"""A billing run from its plan to its report: what is billed is what was approved, and nobody is billed twice or missed."""

from __future__ import annotations

import pytest
from tests.integration.portal.billing_runs.walk import approved, billed, executed, item, planned, states
from tests.integration.portal.revenue.rig import FEBRUARY, JANUARY, run_jobs

from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.billing_runs import queries, services
from provider_federation.portal.billing_runs.models import BillingPlanItem
from provider_federation.portal.revenue.models import LeadCharge, UsageInvoice, UsageSnapshot
from provider_federation.portal.revenue.periods import month
from provider_federation.portal.revenue.services import invoice_usage
from provider_federation.stripe_account import StripeAccount, StripeFailed

ADA, BOB = "operator:ada@example.com", "operator:bob@example.com"


def refusal(call, *arguments, **named):
    with pytest.raises(Problem) as caught:
        call(*arguments, **named)
    return caught.value.code


def test_from_plan_to_report(books, grow):
    grow("ada")[0].uses(FEBRUARY, 3, "7.5")
    grow("bea")[0].uses(FEBRUARY, 0, "99")
    grow("cyd")
    wrong, _ = grow("dan")
    wrong.uses(FEBRUARY, 1, calls=-1)
    grow("eve", enabled=False)
    run = planned()
    assert (run.status, run.plan_hash) == ("planned", services.hash_plan(run))
    assert states(run) == {"ada": "ready", "bea": "ready", "cyd": "nothing", "dan": "held"}
    assert item(run, "dan").hold_code == "negative_usage"
    assert books.invoices() == []
    run = executed(approved(run))
    assert states(run) == {"ada": "billed", "bea": "billed", "cyd": "nothing", "dan": "held"}
    report = queries.report(run)
    assert (run.status, report.clients, report.read, report.disabled, report.finished) == ("done", 4, 4, 1, 4)
    assert report.totals["usd"].planned == report.totals["usd"].billed == 30_750 + 5_000
    assert report.holds == {"negative_usage": 1}
    assert sorted(one["total"] for one in books.invoices()) == [5_000, 30_750]
    assert {one["status"] for one in books.invoices()} == {"open"}
    assert set(UsageInvoice.objects.values_list("billing_run", "status")) == {(run.pk, "open")}
    kinds = set(AuditEvent.objects.filter(subject=f"billing_run:{run.pk}").values_list("kind", flat=True))
    steps = ("plan_started", "planned", "approved", "executed", "finished")
    assert kinds == {f"billing_run.{step}" for step in steps}
    lines = list(queries.report_csv(run))
    assert len(lines) == 5
    assert lines[0].startswith("client,instance,state,currency,total")


def requests(books):
    from provider_federation.testing.stripe_sim.store import account_id

    found = books.simulator.ask("GET", f"/_sim/requests?account={account_id(books.key)}")["requests"]
    return [(row["method"], row["path"]) for row in found]


def test_at_most_four_calls_a_client(books, grow):
    usages = {name: grow(name)[0] for name in ("ada", "bea", "cyd")}
    for usage in usages.values():
        usage.uses(JANUARY, 2, "3")
        usage.uses(FEBRUARY, 1, "4")
    billed(JANUARY)  # each client's first invoice ever also makes its customer
    run = approved(planned())
    before = len(requests(books))
    executed(run)
    calls = requests(books)[before:]
    assert calls.pop(0) == ("GET", "/v1/invoices")
    assert len(calls) == 4 * len(usages)
    steps = [path.rsplit("/", 1)[-1] for _, path in calls]
    assert {step: steps.count(step) for step in set(steps)} == {
        "invoices": 3,
        "add_lines": 3,
        "finalize": 3,
        "send": 3,
    }
    assert {method for method, _ in calls} == {"POST"}


def test_the_same_month_has_one_living_run(grow, books):
    grow("ada")[0].uses(FEBRUARY, 1)
    run = planned()
    assert refusal(services.start_plan, FEBRUARY, actor=ADA) == "run_exists"
    executed(approved(run))
    second = billed()
    assert states(second) == {"ada": "already"}
    assert len(books.invoices()) == 1


def test_a_month_that_is_not_over_is_not_planned(grow):
    grow("ada")
    assert refusal(services.start_plan, "2026-03", actor=ADA) == "period_open"


def test_only_the_approved_hash_is_executed(books, grow):
    grow("ada")[0].uses(FEBRUARY, 1)
    run = planned()
    assert refusal(services.execute_plan, run.pk, actor=BOB) == "not_approved"
    assert refusal(services.approve_plan, run.pk, "sha256:" + "0" * 64, actor=BOB) == "hash_mismatch"
    assert refusal(services.approve_plan, run.pk, "", actor=BOB) == "hash_mismatch"
    approved(run)
    assert refusal(services.approve_plan, run.pk, run.plan_hash, actor=BOB) == "not_planned"


@pytest.mark.parametrize("field", ["lines", "total_cents", "currency", "usage", "plan"])
@pytest.mark.parametrize("when", ["planned", "approved"])
def test_a_tampered_row_stops_the_run(books, grow, field, when):
    grow("ada")[0].uses(FEBRUARY, 2, "5")
    run = planned()
    if when == "approved":
        approved(run)
    one = item(run, "ada")
    changed = {
        "lines": [{**one.lines[0], "amountCents": 1}, *one.lines[1:]],
        "total_cents": one.total_cents + 1,
        "currency": "eur",
        "usage": {FEBRUARY: {**one.usage[FEBRUARY], "aiCost": "6"}},
        "plan": "ELITE",
    }[field]
    BillingPlanItem.objects.filter(pk=one.pk).update(**{field: changed})
    if when == "planned":
        assert refusal(services.approve_plan, run.pk, run.plan_hash, actor=BOB) == "plan_tampered"
    else:
        assert refusal(services.execute_plan, run.pk, actor=BOB) == "plan_tampered"
    assert books.invoices() == []


def test_four_eyes_when_the_policy_says_so(grow, settings):
    grow("ada")
    run = planned(actor=ADA)
    settings.BILLING_FOUR_EYES = True
    assert refusal(services.approve_plan, run.pk, run.plan_hash, actor=ADA) == "four_eyes"
    from provider_federation.portal.operators.services import create_token

    create_token(name="nightly", role="billing", actor=ADA)
    token = "token:nightly"
    assert refusal(services.approve_plan, run.pk, run.plan_hash, actor=token) == "four_eyes"
    assert approved(run, BOB).approved_by == BOB


def test_usage_that_no_longer_matches_is_held_and_the_others_go_on(books, grow):
    ada, _ = grow("ada")
    bea, _ = grow("bea")
    ada.uses(FEBRUARY, 2)
    bea.uses(FEBRUARY, 1)
    run = approved(planned())
    ada.uses(FEBRUARY, 3)
    run = executed(run)
    assert states(run) == {"ada": "held", "bea": "billed"}
    assert item(run, "ada").hold_code == "usage_changed"
    services.retry_held(run.pk, actor=ADA)
    run_jobs()
    run.refresh_from_db()
    assert (run.status, states(run)) == ("planned", {"ada": "ready", "bea": "billed"})
    run = executed(approved(run))
    assert states(run) == {"ada": "billed", "bea": "billed"}
    assert sorted(one["total"] for one in books.invoices()) == [10_000, 30_000]


def test_what_an_earlier_month_gains_after_the_plan_holds_nobody(books, grow):
    ada, _ = grow("ada")
    ada.uses(JANUARY, 1)
    billed(JANUARY)
    ada.uses(JANUARY, 2)
    ada.uses(FEBRUARY, 1)
    run = approved(planned())
    ada.uses(JANUARY, 3)
    run = executed(run)
    assert states(run) == {"ada": "billed"}
    [late] = item(run, "ada").invoice.lines.exclude(late_for="")
    assert (late.late_for, late.quantity, late.amount_cents) == (JANUARY, 1, 10_000)


def test_late_usage_lands_in_the_next_month_once(books, grow, at):
    from datetime import UTC, datetime

    ada, instance = grow("ada")
    ada.uses(JANUARY, 2, "30")
    billed(JANUARY)
    ada.uses(JANUARY, 3, "60.004")
    ada.uses(FEBRUARY, 1, "1")
    run = billed()
    invoice = item(run, "ada").invoice
    lines = [(one.kind, one.late_for, one.quantity, one.amount_cents) for one in invoice.lines.all()]
    assert lines == [
        ("leads", "", 1, 10_000),
        ("ai", "", 1, 100),
        ("leads", JANUARY, 1, 10_000),
        ("ai", JANUARY, 1, 2_000),  # the cap of January is $50, and $30 of it were billed
    ]
    assert {line.evidence["digest"] for line in invoice.lines.filter(kind="leads")}
    ada.uses("2026-03", 1)
    at(datetime(2026, 4, 2, tzinfo=UTC))
    assert [line["lateFor"] for line in item(billed("2026-03"), "ada").lines] == [""]
    assert LeadCharge.objects.filter(instance=instance, released_at=None).count() == 5


def test_a_month_without_anything_to_bill_is_settled_too(books, grow):
    ada, _ = grow("ada")
    assert states(billed(JANUARY)) == {"ada": "nothing"}
    ada.uses(JANUARY, 1)
    run = billed()
    assert [line["lateFor"] for line in item(run, "ada").lines] == [JANUARY]


def test_a_voided_month_is_billed_by_itself_and_not_as_late(books, grow):
    from provider_federation.portal.revenue.services import refresh_any_invoice

    ada, _ = grow("ada")
    ada.uses(JANUARY, 2)
    first = item(billed(JANUARY), "ada").invoice
    books.post(f"invoices/{first.stripe_invoice_id}/void")
    refresh_any_invoice(first.stripe_invoice_id)
    ada.uses(FEBRUARY, 1)
    assert item(billed(), "ada").total_cents == 10_000
    again = item(billed(JANUARY), "ada")
    assert (again.state, again.invoice.total_cents, again.invoice.order_key[-2:]) == ("billed", 20_000, ":2")


def test_evidence_that_disappears_holds_the_client_until_a_person_looked(books, grow):
    ada, _ = grow("ada")
    ada.uses(JANUARY, 3)
    billed(JANUARY)
    ada.uses(JANUARY, 2)
    ada.uses(FEBRUARY, 1)
    run = planned()
    assert item(run, "ada").hold_code == "counter_backwards"
    services.retry_held(run.pk, actor=ADA)
    run_jobs()
    assert item(run, "ada").hold_code == "counter_backwards"
    services.retry_held(run.pk, actor=BOB, only=["org_ada"], reviewed=True)
    run_jobs()
    run.refresh_from_db()
    assert (item(run, "ada").state, item(run, "ada").reviewed_by) == ("ready", BOB)
    assert executed(approved(run)).status == "done"
    assert UsageSnapshot.objects.get(period=JANUARY).usage["leadCount"] == 2


def test_an_instance_that_is_away_is_held_and_counted(books, grow):
    usage, _ = grow("ada")
    grow("bea")[0].uses(FEBRUARY, 1)
    usage.stop()
    run = planned()
    assert item(run, "ada").hold_code == "instance_unavailable"
    report = queries.report(run)
    assert (report.clients, report.read) == (2, 1)


def test_one_clients_fault_of_ours_spoils_its_own_part_only(books, grow, monkeypatch):
    from provider_federation.portal.billing_runs.services import planning

    grow("ada")[0].uses(FEBRUARY, 1)
    grow("bea")[0].uses(FEBRUARY, 1)
    real = planning.plan_client

    def sometimes(instance, *rest, **more):
        if instance.name == "ada":
            raise ZeroDivisionError
        return real(instance, *rest, **more)

    monkeypatch.setattr(planning, "plan_client", sometimes)
    run = planned()
    assert states(run) == {"ada": "held", "bea": "ready"}
    assert item(run, "ada").hold_code == "internal_error"


def test_cancel_before_and_during_and_go_on(books, grow):
    for name in ("ada", "bea"):
        grow(name)[0].uses(FEBRUARY, 1)
    run = planned()
    services.cancel_run(run.pk, actor=ADA)
    run.refresh_from_db()
    assert (run.status, set(states(run).values())) == ("cancelled", {"cancelled"})
    assert run.finished_at
    assert refusal(services.cancel_run, run.pk, actor=ADA) == "run_finished"
    assert refusal(services.execute_plan, run.pk, actor=ADA) == "not_approved"
    run = approved(planned())
    services.execute_plan(run.pk, actor=BOB)
    services.prepare_execution(run.pk)
    first = BillingPlanItem.objects.filter(run=run).order_by("pk").first()
    services.execute_items(run.pk, [first.pk])
    services.cancel_run(run.pk, actor=ADA)
    run_jobs()
    assert sorted(states(run).values()) == ["billed", "cancelled"]
    assert len(books.invoices()) == 1
    run = executed(run)
    assert (run.status, set(states(run).values())) == ("done", {"billed"})
    assert len(books.invoices()) == 2


def test_a_lead_that_was_charged_since_the_plan_holds_its_client(books, grow):
    ada, instance = grow("ada")
    ada.uses(FEBRUARY, 2)
    run = approved(planned())
    ada.uses(JANUARY, 0)
    stolen = [{**ada.months[FEBRUARY]["items"][0]}]
    from tests.integration.portal.revenue.rig import proven

    lead = proven({**stolen[0], "convertedAt": "2026-01-05T00:00:00+00:00"})
    ada.months[JANUARY]["items"] = [lead]
    invoice_usage(instance, month(JANUARY), actor=ADA)
    run = executed(run)
    assert (states(run), item(run, "ada").hold_code) == ({"ada": "held"}, "lead_already_charged")


def test_a_month_that_the_single_route_invoiced_meanwhile_is_not_billed_again(books, grow):
    ada, instance = grow("ada")
    ada.uses(FEBRUARY, 2)
    run = approved(planned())
    invoice_usage(instance, month(FEBRUARY), actor=ADA)
    run = executed(run)
    assert states(run) == {"ada": "already"}
    assert len(books.invoices()) == 1


def test_what_stripe_refuses_is_held_and_taken_up_again(books, grow, settings):
    grow("ada")[0].uses(FEBRUARY, 2)
    run = approved(planned())
    good, settings.PROVIDER_STRIPE_SECRET_KEY = settings.PROVIDER_STRIPE_SECRET_KEY, "sk_wrong"
    run = executed(run)
    assert (run.status, item(run, "ada").hold_code) == ("done", "stripe_not_authorised")
    settings.PROVIDER_STRIPE_SECRET_KEY = good
    services.retry_held(run.pk, actor=ADA)
    run_jobs()
    run.refresh_from_db()
    assert item(run, "ada").state == "ready"
    run = executed(approved(run))
    assert (states(run), [one["total"] for one in books.invoices()]) == ({"ada": "billed"}, [20_000])


def test_a_draft_that_was_deleted_by_hand_is_planned_anew(books, grow, monkeypatch):
    grow("ada")[0].uses(FEBRUARY, 2)

    def refuse(*_arguments, **_named):
        raise StripeFailed("invalid_request", "not today", status=400)

    with monkeypatch.context() as patched:
        patched.setattr(StripeAccount, "finalize_invoice", refuse)
        run = executed(approved(planned()))
    held = item(run, "ada")
    assert (held.state, held.invoice.status) == ("held", "held"), books.invoices()
    [draft] = books.invoices()
    books.simulator.ask("DELETE", f"/v1/invoices/{draft['id']}", key=books.key)
    services.retry_held(run.pk, actor=ADA)
    run_jobs()
    run.refresh_from_db()
    assert (item(run, "ada").state, item(run, "ada").invoice) == ("ready", None)
    run = executed(approved(run))
    assert item(run, "ada").invoice.order_key.endswith(":2")
    assert [(one["total"], one["status"]) for one in books.invoices()] == [(20_000, "open")]
    assert LeadCharge.objects.filter(released_at=None).count() == 2


def test_threat_161_the_same_period_is_invoiced_once(books, grow):
    _, instance = grow("ada")
    usage, _ = grow("bea")
    usage.uses(FEBRUARY, 2)
    first = billed()
    second = billed()
    again = invoice_usage(item(first, "bea").instance, month(FEBRUARY), actor=ADA)
    assert states(second) == {"ada": "nothing", "bea": "already"}
    assert (again.reused, again.invoice) == (True, item(first, "bea").invoice)
    assert invoice_usage(instance, month(FEBRUARY), actor=ADA).invoice is None
    assert [one["total"] for one in books.invoices()] == [20_000]


def test_threat_163_stripe_has_forgotten_the_keys_and_our_ledger_prevents(books, grow, at):
    from datetime import timedelta

    from tests.integration.portal.revenue.rig import NOW

    grow("ada")[0].uses(FEBRUARY, 2)
    billed()
    at(NOW + timedelta(hours=25))
    books.simulator.control("faults", kind="forget_idempotency", key=books.key)
    assert states(billed()) == {"ada": "already"}
    restore()  # not even our ledger knows of it
    assert states(billed()) == {"ada": "billed"}
    assert len(books.invoices()) == 1


def test_a_restored_database_finds_the_invoices_that_are_there(books, grow):
    grow("ada")[0].uses(FEBRUARY, 2)
    billed()
    restore()
    run = billed()
    assert (item(run, "ada").look_first, item(run, "ada").state) == (True, "billed")
    assert len(books.invoices()) == 1


def restore():
    """As after a restore from a backup that is older than the run."""
    from provider_federation.portal.revenue.models import UsageLine
    from provider_federation.portal.subscriptions.models import JournalStep

    BillingPlanItem.objects.all().delete()
    LeadCharge.objects.all().delete()
    UsageLine.objects.all().delete()
    UsageInvoice.objects.all().delete()
    UsageSnapshot.objects.all().delete()
    JournalStep.objects.exclude(key__startswith="customer:").delete()
