"""Events that the webhook itself parked go round again by the pages' buttons, one alone and all at once."""

from __future__ import annotations

import html
import json
import secrets
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from tests.integration.instance.pages.conftest import MakeLead
from tests.integration.instance.test_instance_webhook import HOOK, event_of, signed

from provider_federation.instance.invoicing import services
from provider_federation.instance.invoicing.models import Invoice, StripeEvent
from provider_federation.kit import clock
from provider_federation.money import Period

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sent(stripe: Any, make_lead: MakeLead) -> list[Invoice]:
    """Two invoices that were sent and paid, of which this instance heard nothing."""
    made = []
    for _ in range(2):
        make_lead()
        [draft] = services.draft_invoices(Period(clock.now() - timedelta(days=30), clock.now())).invoices
        made.append(services.send_hosted_invoice(draft.pk))
        stripe.account.pay_invoice(
            made[-1].stripe_invoice_id, idempotency_key=secrets.token_hex(8), paid_out_of_band=True
        )
    return made


def arrive(client: Client, invoice: Invoice) -> StripeEvent:
    """The event comes in by the webhook; Stripe does not let the instance read what it is about."""
    raw = json.dumps(event_of(str(invoice.stripe_invoice_id))).encode()
    headers = {"Stripe-Signature": signed(raw)["Stripe-Signature"]}
    answer = client.post(HOOK, raw, content_type="application/json", headers=headers)
    assert (answer.status_code, answer.json()["state"]) == (200, "parked"), answer.content
    return StripeEvent.objects.get(event_id=json.loads(raw)["id"])


def seen(client: Client, path: str) -> str:
    return html.unescape(client.get(path).content.decode())


def status_of(invoice: Invoice) -> str:
    return Invoice.objects.get(pk=invoice.pk).status


def test_one_alone_then_all(clients: dict[str, Client], sent: list[Invoice], settings: Any) -> None:
    owner, viewer, key = clients["owner"], clients["viewer"], settings.STRIPE_SECRET_KEY
    settings.STRIPE_SECRET_KEY = "a_key_that_stripe_does_not_know"
    first, second = (arrive(clients["nobody"], invoice) for invoice in sent)
    retry = f"/stripe-events/{first.pk}/retry"
    page = seen(owner, "/stripe-events?state=parked")
    assert retry in page
    assert first.event_id in page
    assert retry not in seen(viewer, "/stripe-events?state=parked")
    assert viewer.post(retry).status_code == 403
    assert f"Try {first.event_id} again?" in seen(owner, retry), "a question first"
    said = html.unescape(owner.post(retry, follow=True).content.decode())
    assert "0 applied, 1 not yet." in said
    assert StripeEvent.objects.get(pk=first.pk).state == "parked", "the key is still wrong"
    assert [status_of(one) for one in sent] == ["open", "open"]
    settings.STRIPE_SECRET_KEY = key
    said = html.unescape(owner.post(retry, follow=True).content.decode())
    assert "1 applied, 0 not yet." in said
    assert [status_of(one) for one in sent] == ["paid", "open"]
    assert StripeEvent.objects.get(pk=second.pk).state == "parked", "the other one was not asked for"
    assert second.event_id in seen(owner, "/alerts")
    said = html.unescape(owner.post("/alerts/apply-events", follow=True).content.decode())
    assert "1 applied, 0 not yet." in said
    assert [status_of(one) for one in sent] == ["paid", "paid"]
    owner.post(retry)  # once more changes nothing
    assert set(StripeEvent.objects.values_list("state", flat=True)) == {"applied"}
