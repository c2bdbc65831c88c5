"""A hosted invoice in the client's own Stripe account: once, whatever fails or dies on the way."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.db import connection

from provider_federation.instance.invoicing import services
from provider_federation.instance.invoicing.models import Alert, Change, Invoice, LeadReservation, StripeStep
from provider_federation.instance.leads.models import Lead
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import Period

MakeLead = Callable[..., Lead]
STRIPE_KEY = "sk_test_instance"
SEND = "/api/integrations/stripe/create-hosted-invoice"
pytestmark = pytest.mark.django_db(transaction=True)

_SEND_ALONE = """
import sys, django
django.setup()
from provider_federation.instance.invoicing.services import send_hosted_invoice
sys.stdin.readline()
print(send_hosted_invoice(int(sys.argv[1])).stripe_invoice_id)
"""


def draft(make_lead: MakeLead, *, leads: int = 2, **more: Any) -> Invoice:
    for _ in range(leads):
        make_lead(**more)
    [invoice] = services.draft_invoices(Period(clock.now() - timedelta(days=30), clock.now())).invoices
    return invoice


def in_stripe(stripe: Any, invoice: Invoice) -> list[Any]:
    return list(stripe.account.list_invoices(metadata={"pf_key": invoice.reference}))


def test_sending_over_http_and_again(server: Any, stripe: Any, make_lead: MakeLead) -> None:
    invoice = draft(make_lead, leads=3, price_cents=4_321)
    answer = server.post(SEND, {"id": str(invoice.pk)})
    assert answer.status_code == 200, answer.text
    body = answer.json()["stripeInvoice"]
    assert set(body) == {"id", "number", "status", "amountDue", "hostedInvoiceUrl", "invoicePdf"}
    assert (body["status"], body["amountDue"]) == ("open", 12_963)
    assert httpx.get(body["hostedInvoiceUrl"]).status_code == 200
    assert server.post(SEND, {"id": str(invoice.pk)}).json()["stripeInvoice"] == body
    [there] = in_stripe(stripe, invoice)
    assert (there.id, there.total, there.status) == (body["id"], 12_963, "open")
    assert sorted(line.amount for line in stripe.account.list_lines(there.id)) == [4_321] * 3
    listed = server.get(f"/api/billing/get?id={invoice.pk}").json()["invoice"]
    assert (listed["status"], listed["stripeInvoiceId"]) == ("open", body["id"])
    assert listed["sentAt"]
    kinds = [change.kind for change in Change.objects.order_by("seq")]
    assert kinds == ["invoice.created", "invoice.updated"]


def test_the_same_customer_is_made_once_in_stripe(stripe: Any, make_lead: MakeLead) -> None:
    first, lead = draft(make_lead), make_lead()
    [second] = services.draft_invoices(Period(clock.now() - timedelta(days=30), clock.now())).invoices
    errors: list[BaseException] = []

    def send(invoice: Invoice) -> None:
        try:
            services.send_hosted_invoice(invoice.pk)
        except BaseException as error:  # noqa: BLE001  looked at below
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=send, args=(one,)) for one in (first, second, first, second)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert errors == []
    assert len({in_stripe(stripe, one)[0].customer_id for one in (first, second)}) == 1
    assert [len(in_stripe(stripe, one)) for one in (first, second)] == [1, 1]
    assert len(stripe.account.list_customers(metadata={"pf_customer": lead.customer.reference})) == 1


@pytest.mark.parametrize("before", [True, False], ids=["before the call", "after the call"])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5], ids=["customer", "invoice", "lines", "finalise", "send"])
def test_a_process_killed_around_any_call_loses_and_doubles_nothing(
    server: Any, stripe: Any, make_lead: MakeLead, step: int, before: bool
) -> None:
    invoice = draft(make_lead)
    child = subprocess.Popen(
        [sys.executable, "-c", _SEND_ALONE, str(invoice.pk)],
        env=server.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    stripe.victim = child.pid
    stripe.kill_at(step, before=before)
    out, _ = child.communicate(b"go\n", timeout=60)
    assert (child.returncode, out) == (-9, b"")
    invoice.refresh_from_db()
    assert invoice.sent_at is None
    assert StripeStep.objects.filter(result_id=None).count() == 1  # the key was stored before the call
    stripe.kill_at(0, before=False)
    sent = services.send_hosted_invoice(invoice.pk)
    assert sent.status == "open"
    [there] = in_stripe(stripe, invoice)
    assert (there.id, there.total, there.status) == (sent.stripe_invoice_id, invoice.total_cents, "open")
    assert len(stripe.account.list_lines(there.id)) == 2
    assert len(stripe.account.list_customers(metadata={"pf_customer": invoice.customer.reference})) == 1


@pytest.mark.parametrize("kind", ["rate_limit", "error_before", "error_after", "drop_before", "drop_after"])
def test_a_stripe_that_fails_for_a_while_is_a_503_and_the_next_call_finishes(
    server: Any, stripe: Any, make_lead: MakeLead, kind: str
) -> None:
    invoice = draft(make_lead)
    # A 429 says how long to wait, and is waited for: two of them are enough.
    count = 2 if kind == "rate_limit" else 50
    stripe.control("/faults", kind=kind, method="POST", path="/v1/invoices/*/finalize", count=count)
    answer = server.post(
        SEND, {"id": str(invoice.pk)}, headers={"Idempotency-Key": f"try-{invoice.reference}"}
    )
    if answer.status_code != 200:  # what happened in spite of the error may be found at once
        assert answer.status_code in {502, 503}
        assert answer.json()["reason"].startswith("stripe_")
        invoice.refresh_from_db()
        assert (invoice.status, invoice.sent_at) == ("draft", None)
    stripe.clear_faults()
    again = server.post(
        SEND, {"id": str(invoice.pk)}, headers={"Idempotency-Key": f"try-{invoice.reference}"}
    )
    assert again.status_code == 200, again.text
    assert [one.status for one in in_stripe(stripe, invoice)] == ["open"]


def test_without_a_key_nothing_is_begun(settings: Any, make_lead: MakeLead) -> None:
    settings.STRIPE_SECRET_KEY = ""
    invoice = draft(make_lead)
    with pytest.raises(Problem) as refused:
        services.send_hosted_invoice(invoice.pk)
    assert (refused.value.status, refused.value.code) == (503, "stripe_not_configured")
    assert not StripeStep.objects.exists()


def test_a_void_invoice_is_not_sent(server: Any, make_lead: MakeLead) -> None:
    invoice = draft(make_lead)
    services.void_draft(invoice.pk)
    answer = server.post(SEND, {"id": str(invoice.pk)})
    assert (answer.status_code, answer.json()["reason"]) == (409, "invoice_void")


def test_an_invoice_below_the_minimum_charge_comes_back_paid(stripe: Any, make_lead: MakeLead) -> None:
    invoice = draft(make_lead, leads=1, price_cents=10)
    sent = services.send_hosted_invoice(invoice.pk)
    assert sent.status == "paid"
    assert sent.sent_at is not None
    assert services.send_hosted_invoice(invoice.pk).stripe_invoice_id == sent.stripe_invoice_id


def test_more_lines_than_one_call_takes(stripe: Any, make_lead: MakeLead) -> None:
    invoice = draft(make_lead, leads=260, price_cents=1_000)
    sent = services.send_hosted_invoice(invoice.pk)
    assert sent.stripe_invoice_id is not None
    assert len(stripe.account.list_lines(sent.stripe_invoice_id)) == 260


def test_a_sending_that_broke_can_be_voided(stripe: Any, make_lead: MakeLead) -> None:
    invoice = draft(make_lead)
    stripe.control("/faults", kind="error_before", method="POST", path="/v1/invoices/*/finalize", count=50)
    with pytest.raises(Problem):
        services.send_hosted_invoice(invoice.pk)
    assert [one.status for one in in_stripe(stripe, invoice)] == ["draft"]
    services.void_draft(invoice.pk)
    assert in_stripe(stripe, invoice) == []
    assert LeadReservation.objects.count() == 0


def test_what_stripe_refuses_for_good_is_a_502_and_an_alert(
    stripe: Any, make_lead: MakeLead, settings: Any
) -> None:
    settings.STRIPE_SECRET_KEY = "sk_live_revoked"
    invoice = draft(make_lead)
    with pytest.raises(Problem) as refused:
        services.send_hosted_invoice(invoice.pk)
    assert (refused.value.status, refused.value.code) == (502, "stripe_not_authorised")
    assert Alert.objects.get().subject == invoice.number
    with pytest.raises(Problem) as unseen:
        services.void_draft(invoice.pk)  # nobody can look whether Stripe has it
    assert unseen.value.code == "stripe_not_authorised"
    settings.STRIPE_SECRET_KEY = STRIPE_KEY
    services.void_draft(invoice.pk)  # nothing was made in Stripe, so it can go
