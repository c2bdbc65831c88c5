"""Dunning, statements, and the pages of receivables, in one world each."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail
from django.test import Client
from tests.integration.portal.revenue.rig import FEBRUARY, deliver, run_jobs

from provider_federation.portal.operators.services import add_operator
from provider_federation.portal.receivables.models import CreditNote, DunningStep, LeadDispute
from provider_federation.portal.receivables.services import dunning
from provider_federation.portal.receivables.services.schedule import schedule_receivables
from provider_federation.portal.receivables.services.statement_files import statement_csv, statement_pdf
from provider_federation.portal.receivables.services.statements import statement_of
from provider_federation.portal.revenue.models import Alert, LeadCharge, UsageInvoice
from provider_federation.portal.revenue.periods import month
from provider_federation.portal.subscriptions.entitlements import update_entitlement

BASE = "/api/provider/billing"
DUE = datetime(2026, 4, 9, 12, tzinfo=UTC)  # 30 days after 10 March 2026, 12:00


@pytest.fixture
def billed(books, grow, api):
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 2, ai="3.00")
    card = {"clientOrgId": "org_ada", "planId": "PRO", "paymentMethodId": "pm_card_visa"}
    assert api.post(f"{BASE}/subscriptions", card, content_type="application/json").status_code == 201
    wanted = {"clientOrgId": "org_ada", "periodStart": "2026-02-01", "periodEnd": "2026-02-28"}
    api.post(f"{BASE}/revenue", wanted, content_type="application/json")
    run_jobs()
    return UsageInvoice.objects.get()


def steps():
    return list(DunningStep.objects.values_list("step", "state"))


def test_reminders_escalation_restriction_and_their_end(books, billed, api, at):
    assert billed.due_at == DUE
    at(DUE - timedelta(days=4))
    assert dunning.remind_all() == []
    at(DUE - timedelta(days=3))
    schedule_receivables()
    assert run_jobs() == []
    assert steps() == [("day -3", "sent")]
    assert (mail.outbox[0].to, "is due soon" in mail.outbox[0].subject) == (["ada@example.com"], True)
    assert "$203.00" in mail.outbox[0].body
    assert billed.hosted_invoice_url in mail.outbox[0].body
    assert dunning.remind_all() == []
    at(DUE + timedelta(days=8))  # day 1 and day 7 are both due: one mail, about today
    dunning.remind_all()
    assert steps()[1:] == [("day 1", "skipped"), ("day 7", "sent")]
    assert "is overdue" in mail.outbox[-1].subject
    assert update_entitlement(billed.instance).state == "full"
    at(DUE + timedelta(days=22))
    dunning.remind_all()
    assert steps()[-1] == ("day 21", "sent")
    assert Alert.objects.get(kind="dunning_escalated").subject.endswith(billed.stripe_invoice_id)
    assert update_entitlement(billed.instance).state == "restricted"
    books.post(f"invoices/{billed.stripe_invoice_id}/pay", payment_method="pm_card_visa")
    deliver(api, books.events("invoice.paid")[-1])
    run_jobs()
    billed.instance.entitlement.refresh_from_db()
    assert billed.instance.entitlement.state == "full"
    assert len(mail.outbox) == 2


def test_a_step_is_never_sent_twice_and_a_dead_sender_is_shown(books, billed, at):
    at(DUE + timedelta(days=1))

    class Died(BaseException):
        pass

    def dies(_reminder):
        raise Died

    with pytest.raises(Died):
        dunning.remind_all(dies)
    assert dunning.remind_all() == []
    assert (steps()[-1], mail.outbox) == (("day 1", "claimed"), [])
    row = DunningStep.objects.get(step="day 1")
    assert not row.unsure
    at(DUE + timedelta(days=1, minutes=11))
    assert row.unsure
    [due] = [dunning.Due(billed, dunning.parse_schedule("7")[0], ())]
    at(DUE + timedelta(days=7))
    assert dunning.take_step(due) is not None
    assert dunning.take_step(due) is None  # another worker that saw it due as well
    assert len(mail.outbox) == 1


@pytest.mark.parametrize("ending", ["pay", "void", "credit"])
def test_what_is_not_owed_is_not_reminded_of_though_no_event_came(books, billed, at, ending):
    if ending == "pay":
        books.post(f"invoices/{billed.stripe_invoice_id}/pay", paid_out_of_band="true")
    elif ending == "void":
        books.post(f"invoices/{billed.stripe_invoice_id}/void")
    else:
        books.post("credit_notes", invoice=billed.stripe_invoice_id, amount=20_300)
    at(DUE + timedelta(days=2))
    assert (dunning.remind_all(), mail.outbox) == ([], [])


def test_a_mail_server_that_refuses_is_an_alert_and_not_a_loop(books, billed, at):
    at(DUE + timedelta(days=1))

    def refuses(_reminder):
        raise ConnectionRefusedError("no mail today")

    [step] = dunning.remind_all(refuses)
    assert (step.state, Alert.objects.get().kind) == ("failed", "reminder_failed")
    assert dunning.remind_all() == []


def test_a_statement_adds_up_in_each_currency_and_its_files_are_safe(books, billed, api, settings):
    def ask(path, body):
        return api.post(
            f"{BASE}/receivables/{billed.stripe_invoice_id}/{path}", body, content_type="application/json"
        )

    books.post(f"invoices/{billed.stripe_invoice_id}/pay", payment_method="pm_card_visa")
    api.post(f"{BASE}/sweep")
    line = [{"position": 1, "amountCents": 10_000}]
    assert ask("credit-notes", {"reference": "c", "lines": line, "settle": "refund"}).status_code == 201
    UsageInvoice.objects.create(
        instance=billed.instance, order_key="eur", period="2026-01", period_start=billed.period_start, plan="PRO",
        period_end=billed.period_end, status="open", currency="eur", total_cents=500, remaining_cents=500, due_cents=500,
        usage_digest="", asked_by="t", created_at=billed.created_at, updated_at=billed.created_at, number="=EVIL()",
        finalized_at=datetime(2026, 2, 20, tzinfo=UTC), stripe_invoice_id="in_eur",
    )  # fmt: skip
    billed.instance.title = "Łódź Čeština ﷽ 漢字 \x00 Ωμέγα"
    found = statement_of(billed.instance, month("2026-03"))
    euro, dollar = found.currencies
    assert (euro.currency, euro.opening, euro.entries, euro.closing) == ("eur", 500, (), 500)
    kinds = sorted((entry.kind, entry.amount) for entry in dollar.entries)
    assert kinds == [
        ("credit_note", -10_000), ("invoice", 9_700), ("invoice", 20_300), ("payment", -20_300), ("payment", -9_700),
        ("refund", 10_000),
    ]  # fmt: skip
    assert dollar.closing == 0
    pdf = statement_pdf(found)
    assert pdf.startswith(b"%PDF-")
    assert pdf == statement_pdf(found)
    settings.PROVIDER_NAME = "Northgate \x00 Łtd 漢"
    assert statement_pdf(found) != pdf, "it names its sender"
    february = statement_csv(statement_of(billed.instance, month(FEBRUARY)))
    assert "'=EVIL()" in february
    query = f"clientOrgId=org_ada&period={FEBRUARY}"
    assert api.get(f"{BASE}/statements?{query}").json()["statement"]["currencies"][0]["closingCents"] == 500
    for ending in ("csv", "pdf"):
        assert "attachment" in api.get(f"{BASE}/statements.{ending}?{query}").headers["Content-Disposition"]


@pytest.fixture
def billing(transactional_db):
    person = add_operator(
        email="bill@example.com", password="correct horse battery", role="billing", name="", actor="t"
    )
    client = Client()
    client.force_login(person, backend="allauth.account.auth_backends.AuthenticationBackend")
    return client


def test_every_page_and_what_its_buttons_do(books, billed, billing):
    key = billed.stripe_invoice_id

    def get(path):
        return billing.get(path).content.decode()

    assert "$203.00" in get("/receivables/")
    assert "Dispute …" in get(f"/receivables/{key}/")
    assert "are free again" in get(f"/receivables/{key}/void/")
    assert (
        billing.get("/receivables/in_none/").status_code
        == billing.get(f"/receivables/{key}/x/").status_code
        == 404
    )
    reference = re.search(r'name="reference" value="([^"]+)"', get(f"/receivables/{key}/credit/"))[1]
    form = {"reference": reference, "reason": "order_change", "line_2": "1.00", "memo": "", "look": "1"}
    assert "$1.00 is credited" in billing.post(f"/receivables/{key}/credit/", form).content.decode()
    assert CreditNote.objects.count() == 0
    for _double in range(2):
        assert billing.post(f"/receivables/{key}/credit/", {**form, "make": "1"}).status_code == 302
    assert CreditNote.objects.get().total_cents == 100
    for bad in ("1.005", "-1", "1e3", "٣", "2.01"):
        assert billing.post(f"/receivables/{key}/credit/", {**form, "line_2": bad}).status_code == 422
    assert (
        billing.post(f"/receivables/{key}/refund/", {"reference": "r", "reason": "duplicate"}).status_code
        == 422
    )
    charge = LeadCharge.objects.first()
    answer = billing.post(f"/disputes/of/{charge.pk}/", {"claim": "<b>No</b>"})
    assert "&lt;b&gt;No" in get(answer.url)
    assert (
        billing.post(answer.url, {"decision": "Yes", "settle": "balance", "accept": "1"}).status_code == 302
    )
    assert LeadDispute.objects.get().state == "accepted"
    assert "Accepted" in get("/disputes/")
    assert "credit note" in get(answer.url)
    shown = get(f"/statements/{billed.instance.pk}/2026-03/")
    assert "USD" in shown
    assert "Statement March 2026" in shown
    assert "From Your provider to" in shown
    assert billing.get(f"/statements/{billed.instance.pk}/2026-03.pdf").content.startswith(b"%PDF")
    assert billing.post("/webhooks/sweep/").status_code == 302
    assert "Look for lost events" in get("/webhooks/")
    assert billing.post(f"/receivables/{key}/uncollectible/").status_code == 302
    assert billing.post(f"/receivables/{key}/void/").status_code == 302
    billed.refresh_from_db()
    assert billed.status == "void"
