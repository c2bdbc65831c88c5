"""Every call of the account once, through the official SDK, against the Stripe simulator."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from provider_federation.stripe_account import API_VERSION, StripeAccount, StripeFailed, ensure_price
from provider_federation.testing.stripe_sim.server import start_in_thread

KEYS = itertools.count(1)


@pytest.fixture(scope="module")
def running():
    simulator = start_in_thread()
    yield simulator
    simulator.stop()


@pytest.fixture
def account(running):
    return StripeAccount(f"sk_test_calls_{next(KEYS)}", running.url)


def customer(account, **metadata):
    return account.create_customer(
        name="Acme", email="a@acme.test", metadata=metadata, idempotency_key=f"customer {next(KEYS)}"
    )


def draft(account, amount=5_000, owner=None, **metadata):
    owner = owner or customer(account)
    made = account.create_invoice(
        customer_id=owner.id, currency="USD", metadata=metadata, idempotency_key=f"invoice {next(KEYS)}"
    )
    line = {"amount": amount, "description": "Thing", "metadata": {"n": "1"}}
    return account.add_lines(made.id, [line], idempotency_key=f"lines {made.id}")


def final(account, **more):
    return account.finalize_invoice(draft(account, **more).id, idempotency_key=f"final {next(KEYS)}")


def test_whose_account_it_is(account, running):
    info = account.retrieve_account()
    assert info.id.startswith("acct_")
    assert info.id != StripeAccount("sk_test_another", running.url).retrieve_account().id


def test_customers(account):
    first, second = customer(account, pf_customer="1"), customer(account, pf_customer="2")
    assert account.retrieve_customer(first.id) == first
    assert [found.id for found in account.list_customers(metadata={"pf_customer": "2"})] == [second.id]
    assert len(account.list_customers(email="a@acme.test")) == 2
    assert account.list_customers(email="b@acme.test") == []
    assert account.list_customers(since=datetime.now(UTC) + timedelta(days=1)) == []  # noqa: TID251  the simulator here lives in real time
    assert account.update_customer(first.id, name="New", idempotency_key="new").name == "New"


def test_the_same_idempotency_key_is_the_same_customer(account):
    one, other = (
        account.create_customer(name="A", email=None, metadata={}, idempotency_key="k") for _ in range(2)
    )
    assert one == other
    with pytest.raises(StripeFailed) as failed:
        account.create_customer(name="B", email=None, metadata={}, idempotency_key="k")
    assert failed.value.code == "idempotency_mismatch"


def test_prices_are_ensured(account):
    ask = {"lookup_key": "pro", "product_name": "Pro", "currency": "USD"}
    price = ensure_price(account, unit_amount=9_700, **ask)
    assert (price.unit_amount, price.currency, price.interval, price.lookup_key) == (
        9_700,
        "USD",
        "month",
        "pro",
    )
    assert ensure_price(account, unit_amount=9_700, **ask) == price
    dearer = ensure_price(account, unit_amount=9_900, **ask)
    assert dearer.id != price.id
    assert dearer.product_id == price.product_id
    assert ensure_price(account, unit_amount=9_900, **ask) == dearer
    assert ensure_price(account, unit_amount=9_700, **ask).unit_amount == 9_700
    assert account.retrieve_price(price.id).lookup_key is None
    assert [found.unit_amount for found in account.list_prices(lookup_keys=["pro"])] == [9_700]


def test_a_free_plan_has_a_price_too(account):
    assert ensure_price(account, lookup_key="base", product_name="Base", unit_amount=0).unit_amount == 0


@pytest.fixture
def pro(account):
    return ensure_price(account, lookup_key="pro", product_name="Pro", unit_amount=9_700)


def test_a_subscription_with_a_payment_method_is_charged(account, pro):
    owner = customer(account)
    method = account.attach_payment_method("pm_card_visa", owner.id, idempotency_key="attach")
    assert method.customer_id == owner.id
    assert (
        account.set_default_payment_method(owner.id, method.id, idempotency_key="d").default_payment_method
        == method.id
    )
    made = account.create_subscription(
        customer_id=owner.id,
        price_id=pro.id,
        metadata={"pf_client": "acme"},
        idempotency_key="s",
        payment_method_id=method.id,
    )
    assert (made.status, made.customer_id, made.metadata["pf_client"]) == ("active", owner.id, "acme")
    assert made.items[0].price.id == pro.id
    assert made.items[0].period_end - made.items[0].period_start >= timedelta(days=28)
    assert account.retrieve_subscription(made.id) == made
    invoice = account.retrieve_invoice(made.latest_invoice_id)
    assert (invoice.status, invoice.total, invoice.subscription_id) == ("paid", 9_700, made.id)
    assert [found.id for found in account.list_invoices(subscription_id=made.id)] == [invoice.id]


def test_a_subscription_without_one_begins_incomplete(account, pro):
    owner = customer(account)
    made = account.create_subscription(
        customer_id=owner.id, price_id=pro.id, metadata={}, idempotency_key="s"
    )
    assert made.status == "incomplete"
    assert [found.id for found in account.list_subscriptions(customer_id=owner.id)] == [made.id]


def test_a_subscription_by_invoice_is_changed_and_cancelled(account, pro):
    owner = customer(account)
    made = account.create_subscription(
        customer_id=owner.id, price_id=pro.id, metadata={}, idempotency_key="s", days_until_due=14
    )
    assert (made.status, made.collection_method) == ("active", "send_invoice")
    ending = account.update_subscription(made.id, idempotency_key="end", cancel_at_period_end=True)
    assert ending.cancel_at_period_end
    assert account.cancel_subscription(made.id, idempotency_key="cancel").status == "canceled"


def test_an_invoice_from_draft_to_paid(account):
    invoice = draft(account, pf_key="o")
    assert (invoice.status, invoice.total, invoice.hosted_invoice_url) == ("draft", 5_000, None)
    assert [line.metadata for line in account.list_lines(invoice.id)] == [{"n": "1"}]
    opened = account.finalize_invoice(invoice.id, idempotency_key="final")
    assert (opened.status, opened.amount_due, opened.amount_remaining) == ("open", 5_000, 5_000)
    assert opened.hosted_invoice_url
    assert opened.number
    assert opened.finalized_at
    assert account.send_invoice(invoice.id, idempotency_key="send").status == "open"
    paid = account.pay_invoice(invoice.id, idempotency_key="pay", paid_out_of_band=True)
    assert (paid.status, paid.paid_out_of_band) == ("paid", True)


def test_an_invoice_that_is_voided_or_given_up(account):
    voided, lost = final(account), final(account)
    assert account.void_invoice(voided.id, idempotency_key="v").status == "void"
    assert account.mark_uncollectible(lost.id, idempotency_key="u").status == "uncollectible"
    assert {invoice.id for invoice in account.list_invoices(status="void")} == {voided.id}
    gone = draft(account)
    account.delete_draft(gone.id, idempotency_key="d")
    with pytest.raises(StripeFailed) as failed:
        account.retrieve_invoice(gone.id)
    assert failed.value.code == "resource_missing"


def test_invoices_are_listed_by_customer_time_and_metadata(account):
    owner = customer(account)
    made = [draft(account, owner=owner, pf_key=str(number)) for number in range(3)]
    draft(account, pf_key="1")
    assert [found.id for found in account.list_invoices(customer_id=owner.id)] == [
        invoice.id for invoice in reversed(made)
    ]
    assert [found.id for found in account.list_invoices(customer_id=owner.id, metadata={"pf_key": "1"})] == [
        made[1].id
    ]
    moment = made[0].created
    assert account.list_invoices(before=moment) == []
    assert len(account.list_invoices(since=moment)) == 4


def test_all_lines_of_a_long_invoice(account):
    invoice = draft(account)
    more = [{"amount": 1, "description": str(number)} for number in range(250)]
    account.add_lines(invoice.id, more, idempotency_key="more")
    assert len(account.list_lines(invoice.id)) == 251
    assert account.retrieve_invoice(invoice.id).has_more_lines
    with pytest.raises(ValueError, match="250"):
        account.add_lines(invoice.id, [*more, more[0]], idempotency_key="too many")


def test_a_declined_card_is_no_reason_to_try_again(account):
    invoice = final(account)
    with pytest.raises(StripeFailed) as failed:
        account.pay_invoice(invoice.id, idempotency_key="pay", payment_method_id="pm_card_chargeDeclined")
    assert (failed.value.status, failed.value.retryable) == (402, False)


def test_events(account):
    invoice = final(account)
    [event] = account.list_events(types=["invoice.finalized"])
    assert (event.object_id, event.object_type, event.api_version) == (invoice.id, "invoice", API_VERSION)
    assert account.retrieve_event(event.id) == event


def test_webhook_endpoints(account):
    made = account.create_webhook_endpoint("http://127.0.0.1:9/hook", ["invoice.paid"], idempotency_key="w")
    assert made.secret.startswith("whsec_")
    assert made.secret not in repr(made)
    assert made.url == "http://127.0.0.1:9/hook"
