"""The client's Stripe events: verified, stored once, applied from what Stripe says now."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest

from provider_federation.instance.invoicing import services
from provider_federation.instance.invoicing.models import Alert, Change, Invoice, LeadReservation, StripeEvent
from provider_federation.instance.leads.models import Lead
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import Period

MakeLead = Callable[..., Lead]
HOOK = "/api/webhooks/stripe"
SECRET = "whsec_" + "instance0tests0" * 2
pytestmark = pytest.mark.django_db(transaction=True)


def event_of(invoice_id: str, kind: str = "invoice.paid", **more: Any) -> dict[str, Any]:
    inner = {"id": invoice_id, "object": "invoice", "status": "paid"}
    return {
        "id": f"evt_{secrets.token_hex(8)}",
        "object": "event",
        "type": kind,
        "created": int(clock.timestamp()),
        "livemode": False,
        "api_version": "2026-10-28.endive",
        "data": {"object": inner},
        **more,
    }


def signed(raw: bytes, *, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    moment = int(clock.timestamp() if at is None else at)
    mark = hmac.new(secret.encode(), f"{moment}.".encode() + raw, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={moment},v1={mark}", "Content-Type": "application/json"}


def deliver(server: Any, event: dict[str, Any]) -> Any:
    raw = json.dumps(event).encode()
    return server.anonymous("POST", HOOK, content=raw, headers=signed(raw))


@pytest.fixture
def sent(stripe: Any, make_lead: MakeLead) -> Invoice:
    make_lead(), make_lead()
    [invoice] = services.draft_invoices(Period(clock.now() - timedelta(days=30), clock.now())).invoices
    return services.send_hosted_invoice(invoice.pk)


def test_paid_reaches_the_invoice_once(server: Any, stripe: Any, sent: Invoice) -> None:
    stripe.account.pay_invoice(
        sent.stripe_invoice_id, idempotency_key=secrets.token_hex(8), paid_out_of_band=True
    )
    event = event_of(sent.stripe_invoice_id)
    answers = [deliver(server, event) for _ in range(2)]
    raw = json.dumps(event).encode()
    with ThreadPoolExecutor(10) as pool:
        answers += list(
            pool.map(lambda _: server.anonymous("POST", HOOK, content=raw, headers=signed(raw)), range(20))
        )
    assert {(answer.status_code, answer.json()["state"]) for answer in answers} == {(200, "applied")}
    sent.refresh_from_db()
    assert (sent.status, sent.amount_paid_cents, sent.paid_out_of_band) == ("paid", 20_000, True)
    assert sent.paid_at is not None
    assert StripeEvent.objects.count() == 1
    assert Change.objects.count() == 3  # created, sent, paid


@pytest.mark.parametrize("what", ["void", "uncollectible", "paid after uncollectible"])
def test_other_endings(server: Any, stripe: Any, sent: Invoice, what: str) -> None:
    key = secrets.token_hex(8)
    if what == "void":
        stripe.account.void_invoice(sent.stripe_invoice_id, idempotency_key=key)
    else:
        stripe.account.mark_uncollectible(sent.stripe_invoice_id, idempotency_key=key)
    assert deliver(server, event_of(sent.stripe_invoice_id, "invoice.updated")).status_code == 200
    sent.refresh_from_db()
    assert sent.status == what.rsplit(maxsplit=1)[-1]
    assert LeadReservation.objects.count() == (0 if what == "void" else 2)
    if what.startswith("paid"):
        stripe.account.pay_invoice(sent.stripe_invoice_id, idempotency_key=key + "2", paid_out_of_band=True)
        deliver(server, event_of(sent.stripe_invoice_id))
        deliver(server, event_of(sent.stripe_invoice_id, "invoice.marked_uncollectible"))  # late
        sent.refresh_from_db()
        assert sent.status == "paid"


def test_an_event_that_lies_changes_nothing(server: Any, stripe: Any, sent: Invoice) -> None:
    assert deliver(server, event_of(sent.stripe_invoice_id, "invoice.paid")).json()["state"] == "applied"
    sent.refresh_from_db()
    assert sent.status == "open"  # Stripe itself says so
    assert Change.objects.count() == 2


def test_events_that_are_not_ours_are_kept_and_ignored(server: Any, stripe: Any, sent: Invoice) -> None:
    customer = stripe.account.create_customer(
        name="Else", email="else@x.example", metadata={}, idempotency_key=secrets.token_hex(8)
    )
    other = stripe.account.create_invoice(
        customer_id=customer.id,
        currency="usd",
        metadata={"pf_key": "somebody-elses"},
        idempotency_key=secrets.token_hex(8),
    )
    for invoice_id in (other.id, other.id, "in_unknown"):
        assert deliver(server, event_of(invoice_id)).json()["state"] == "ignored"
    assert (
        deliver(
            server,
            {
                **event_of("cus_1"),
                "type": "customer.created",
                "data": {"object": {"id": "cus_1", "object": "customer"}},
            },
        ).json()["state"]
        == "ignored"
    )
    assert deliver(server, event_of(other.id, "invoice.something_new")).json()["state"] == "ignored"
    assert {(alert.subject, alert.times) for alert in Alert.objects.all()} == {
        (customer.id, 3),
        ("in_unknown", 1),
    }
    assert Change.objects.count() == 2


def test_stripe_away_keeps_the_event_for_later(server: Any, stripe: Any, sent: Invoice) -> None:
    stripe.account.pay_invoice(
        sent.stripe_invoice_id, idempotency_key=secrets.token_hex(8), paid_out_of_band=True
    )
    stripe.control("/faults", kind="error_before", method="GET", path="/v1/invoices/*", count=50)
    event = event_of(sent.stripe_invoice_id)
    first = deliver(server, event)
    assert (first.status_code, first.json()["reason"]) == (503, "stripe_unavailable")
    kept = StripeEvent.objects.get()
    assert (kept.state, kept.attempts, kept.last_error) == ("pending", 1, "stripe_unavailable")
    assert services.apply_pending() == (0, 1)
    stripe.clear_faults()
    assert (
        deliver(server, event_of("in_unknown")).status_code == 200
    )  # the next event takes the pending one along
    sent.refresh_from_db()
    assert sent.status == "paid"
    assert services.apply_pending() == (0, 0)
    assert deliver(server, event).json()["state"] == "applied"


def test_finalised_but_not_yet_known_here_is_found_by_our_reference(
    server: Any, stripe: Any, sent: Invoice
) -> None:
    Invoice.objects.filter(pk=sent.pk).update(stripe_invoice_id=None, status="draft", sent_at=None)
    assert (
        deliver(server, event_of(sent.stripe_invoice_id or "", "invoice.finalized")).json()["state"]
        == "applied"
    )
    found = Invoice.objects.get(pk=sent.pk)
    assert (found.status, found.stripe_invoice_id, found.sent_at) == ("draft", sent.stripe_invoice_id, None)
    with pytest.raises(Problem) as refused_void:
        services.void_draft(sent.pk)
    assert refused_void.value.code == "not_a_draft"  # Stripe has finalised it
    again = services.send_hosted_invoice(sent.pk)
    assert (again.status, again.sent_at is not None) == ("open", True)


def test_a_broken_apply_is_a_500_and_the_event_stays(
    stripe: Any, sent: Invoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    from provider_federation.instance.invoicing.services import events

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("midway")

    raw = json.dumps(event_of(sent.stripe_invoice_id)).encode()
    with monkeypatch.context() as patch:
        patch.setattr(events, "apply_invoice", broken)
        with pytest.raises(RuntimeError):
            services.receive_event(raw, signed(raw)["Stripe-Signature"], clock.timestamp())
    assert StripeEvent.objects.get().state == "pending"
    assert services.apply_pending() == (1, 0)


def test_poison_is_parked_and_goes_round_again_when_a_person_says_so(
    stripe: Any, sent: Invoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    from provider_federation.instance.invoicing.services import events

    raw = json.dumps(event_of(sent.stripe_invoice_id)).encode()
    signature = signed(raw)["Stripe-Signature"]
    with monkeypatch.context() as patch:
        patch.setattr(events, "apply_invoice", lambda _: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            services.receive_event(raw, signature, clock.timestamp())
        for _ in range(events.MOST_ATTEMPTS):
            services.apply_pending()
    parked = StripeEvent.objects.get()
    assert (parked.state, parked.attempts, parked.last_error) == ("parked", 10, "ZeroDivisionError")
    assert (
        services.receive_event(raw, signature, clock.timestamp()) == "parked"
    )  # Stripe need not send it again
    assert services.apply_pending() == (0, 0)
    assert services.retry_parked(parked.pk) == 1
    assert services.apply_pending() == (1, 0)
    assert services.retry_parked() == 0


def test_what_stripe_refuses_for_good_is_parked_at_once(stripe: Any, sent: Invoice, settings: Any) -> None:
    settings.STRIPE_SECRET_KEY = "a_key_that_stripe_does_not_know"
    raw = json.dumps(event_of(sent.stripe_invoice_id)).encode()
    state = services.receive_event(raw, signed(raw)["Stripe-Signature"], clock.timestamp())
    assert state == "parked"


def refused(answer: Any, reason: str) -> None:
    assert (answer.status_code, answer.json()["reason"]) == (400, reason), answer.text
    assert not StripeEvent.objects.exists()


def test_what_stripe_did_not_sign_is_refused(server: Any) -> None:
    raw = json.dumps(event_of("in_1")).encode()
    good = signed(raw)["Stripe-Signature"]
    for header in (
        "",
        "t=1",
        "v1=00",
        good.replace("v1=", "v0="),
        good + ",t=1",
        "t=x,v1=00",
        good[:-1] + ("0" if good[-1] != "0" else "1"),
    ):
        refused(
            server.anonymous("POST", HOOK, content=raw, headers={"Stripe-Signature": header}), "bad_signature"
        )
    refused(server.anonymous("POST", HOOK, content=raw), "bad_signature")
    refused(
        server.anonymous("POST", HOOK, content=raw, headers=signed(raw, secret="whsec_other")),
        "bad_signature",
    )
    refused(server.anonymous("POST", HOOK, content=raw + b" ", headers=signed(raw)), "bad_signature")
    for shift in (-301, 301):
        refused(
            server.anonymous("POST", HOOK, content=raw, headers=signed(raw, at=clock.timestamp() + shift)),
            "timestamp_out_of_window",
        )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff",
        b'{"id": "evt_1"}',
        b"[" * 100_000,
    ],
)
def test_signed_nonsense_is_a_400(server: Any, raw: bytes) -> None:
    refused(server.anonymous("POST", HOOK, content=raw, headers=signed(raw)), "bad_payload")


def test_names_that_no_event_has(server: Any) -> None:
    odd = [
        {**event_of("in_1"), **change}
        for change in (
            {"id": "evt_" + "x" * 500}, {"id": "evt \u0000"}, {"id": 1}, {"type": "x" * 200}, {"type": None},
            {"data": None}, {"livemode": None}, {"data": {"object": {"id": ["in_1"], "object": "invoice"}}},
        )
    ]  # fmt: skip
    for event in (*odd, *odd):  # a copy is known, also without a name
        assert deliver(server, event).json()["state"] == "ignored"
    assert {bool(event.note) for event in StripeEvent.objects.all()} == {True}
    assert StripeEvent.objects.count() == len(odd)


def test_the_other_mode_and_another_account(server: Any) -> None:
    refused(deliver(server, event_of("in_1", livemode=True)), "livemode_mismatch")
    refused(deliver(server, event_of("in_1", account="acct_other")), "wrong_account")


def test_without_a_secret_nothing_is_taken(db: None, settings: Any) -> None:
    settings.STRIPE_WEBHOOK_SECRET = ""
    with pytest.raises(Problem) as problem:
        services.receive_event(b"{}", "t=1,v1=" + "0" * 64, 1.0)
    assert problem.value.code == "stripe_not_configured"


@pytest.fixture
def wired(server: Any, stripe: Any) -> Iterator[None]:
    """The client's Stripe account delivers its events to the served instance by itself."""
    stripe.wire(server.url + HOOK, SECRET)
    yield
    stripe.unwire()


def test_a_customer_pays_on_the_hosted_page_and_the_invoice_is_paid(
    server: Any, stripe: Any, wired: None, sent: Invoice
) -> None:
    card = {"number": "4242424242424242", "exp_month": "12", "exp_year": "2040", "cvc": "123"}
    assert httpx.get(sent.hosted_invoice_url).status_code == 200
    paid = httpx.post(sent.hosted_invoice_url, data=card, follow_redirects=True)
    assert paid.status_code == 200
    stripe.control("/webhooks/flush", deadline=20)
    sent.refresh_from_db()
    assert (sent.status, sent.amount_paid_cents, sent.paid_out_of_band) == ("paid", sent.total_cents, False)
    deadline = clock.monotonic() + 60  # a delivery may still be on its way
    while StripeEvent.objects.filter(state="pending").exists() and clock.monotonic() < deadline:
        threading.Event().wait(0.05)
    about_invoices = StripeEvent.objects.filter(type__startswith="invoice.").exclude(object_id="")
    assert {(event.state, event.last_error) for event in about_invoices} == {("applied", "")}
