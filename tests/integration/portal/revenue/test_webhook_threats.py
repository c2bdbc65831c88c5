"""Area C of the threat list, by number: the provider's Stripe webhook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from tests.integration.portal.revenue.rig import FEBRUARY, deliver, jobs, run_jobs, signed

from provider_federation.kit import clock
from provider_federation.portal.revenue.models import Alert, StripeEvent, UsageInvoice
from provider_federation.portal.revenue.services import events as event_services
from provider_federation.portal.revenue.services.jobs import APPLY

URL = "/api/webhooks/provider-stripe"


def event(**more):
    return {
        "id": "evt_1", "object": "event", "type": "invoice.paid", "created": int(clock.timestamp()), "livemode": False,
        "api_version": "2026-10-28.endive", "data": {"object": {"id": "in_1", "object": "invoice"}}, **more,
    }  # fmt: skip


@pytest.fixture
def billed(books, grow, api):
    """A client with one open usage invoice; returns its row."""
    usage, _ = grow("ada")
    usage.uses(FEBRUARY, 2)
    api.post(
        "/api/provider/billing/revenue",
        {"clientOrgId": "org_ada", "periodStart": "2026-02-01", "periodEnd": "2026-02-28"},
        content_type="application/json",
    )
    assert run_jobs() == []
    return UsageInvoice.objects.get()


def refused(answer, status, reason):
    assert (answer.status_code, answer.json()["ok"], answer.json()["reason"]) == (status, False, reason)
    assert StripeEvent.objects.count() == 0
    assert jobs(APPLY) == 0


@pytest.mark.parametrize(
    "header",
    ["", "garbage", "t=1,v0=" + "0" * 64, "t=1773144000,v1=" + "A" * 64, "t=1773144000,v1=" + "0" * 64],
)
def test_threat_149_no_garbage_or_other_signatures(books, grow, api, header):
    raw, _ = signed(event())
    refused(
        api.post(URL, raw, content_type="application/json", headers={"Stripe-Signature": header}),
        400,
        "bad_signature",
    )


def test_threat_149_wrong_secret_upper_case_and_no_secret(books, grow, api, settings):
    refused(deliver(api, event(), secret="whsec_other"), 400, "bad_signature")
    raw, header = signed(event())
    upper = header.replace("v1=", "v1=").split("v1=")[0] + "v1=" + header.split("v1=")[1].upper()
    refused(
        api.post(URL, raw, content_type="application/json", headers={"Stripe-Signature": upper}),
        400,
        "bad_signature",
    )
    settings.PROVIDER_STRIPE_WEBHOOK_SECRET = ""
    refused(deliver(api, event(), secret="x"), 503, "webhook_not_configured")


@pytest.mark.parametrize(("secret", "starts"), [("", False), ("whsec_1", True), (None, True)])
def test_threat_149_an_empty_secret_does_not_start(tmp_path, secret, starts):
    given = {} if secret is None else {"PROVIDER_STRIPE_WEBHOOK_SECRET": secret}
    environment = {
        **os.environ,
        "PROVIDER_FEDERATION_ENV": "development",
        "PORTAL_DATA_DIR": str(tmp_path),
        **given,
    }
    environment["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"
    if secret is None:
        environment.pop("PROVIDER_STRIPE_WEBHOOK_SECRET", None)
    code = "import provider_federation.portal.settings"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) is starts, done.stderr
    assert starts or "PROVIDER_STRIPE_WEBHOOK_SECRET" in done.stderr


@pytest.mark.parametrize("seconds", [-301, 301, -10_000, 10_000])
def test_threat_150_timestamps_outside_the_window(books, grow, api, seconds):
    refused(deliver(api, event(), at=clock.timestamp() + seconds), 400, "timestamp_out_of_window")


@pytest.mark.parametrize("header", ["v1={v1}", "t={t},t={t},v1={v1}", "t=soon,v1={v1}"])
def test_threat_150_timestamp_missing_repeated_or_text(books, grow, api, header):
    raw, good = signed(event())
    t, v1 = (part.split("=")[1] for part in good.split(","))
    bad = header.format(t=t, v1=v1)
    refused(
        api.post(URL, raw, content_type="application/json", headers={"Stripe-Signature": bad}),
        400,
        "bad_signature",
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: json.dumps(json.loads(raw), indent=1).encode(),
        lambda raw: raw + b" ",
        lambda raw: b"\xef\xbb\xbf" + raw,
    ],
)
def test_threat_151_a_body_that_is_not_byte_for_byte_the_signed_one(books, grow, api, change):
    raw, header = signed(event())
    refused(
        api.post(URL, change(raw), content_type="application/json", headers={"Stripe-Signature": header}),
        400,
        "bad_signature",
    )


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe", b"[]", b"null", b"{", b"1e999", b"\xef\xbb\xbf{}", b"[" * 50_000],
)
def test_threat_151_a_signed_body_that_is_no_event(books, grow, api, body):
    refused(deliver(api, body), 400, "bad_payload")


def test_threat_153_the_same_event_twice_and_twenty_times_at_once(books, billed, api):
    paid = books.post(f"invoices/{billed.stripe_invoice_id}/pay", payment_method="pm_card_visa")
    assert paid["status"] == "paid"
    [fact] = books.events("invoice.paid")

    def post(_number):
        try:
            return deliver(api, fact).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(post, range(20))) == {200}
    assert (StripeEvent.objects.count(), jobs(APPLY)) == (1, 1)
    assert run_jobs() == []
    assert deliver(api, fact).json()["duplicate"] is True
    assert jobs(APPLY) == 0
    billed.refresh_from_db()
    assert (billed.status, billed.paid_cents) == ("paid", 20_000)


def test_threat_154_events_in_any_order_lead_to_the_same_row(books, billed, api):
    books.post(f"invoices/{billed.stripe_invoice_id}/pay", payment_method="pm_card_visa")
    for fact in reversed(books.events("invoice.")):
        deliver(api, fact)
    assert run_jobs() == []
    billed.refresh_from_db()
    assert (billed.status, billed.paid_cents, billed.remaining_cents) == ("paid", 20_000, 0)
    assert set(StripeEvent.objects.values_list("state", flat=True)) == {"applied"}


def test_threat_154_an_older_look_never_overwrites_a_newer_one(books, billed, api):
    from provider_federation.portal.revenue.services.applying import apply_usage_invoice
    from provider_federation.portal.subscriptions.applying import Overtaken
    from provider_federation.portal.subscriptions.services import provider_account

    old = provider_account().retrieve_invoice(billed.stripe_invoice_id)
    books.post(f"invoices/{billed.stripe_invoice_id}/pay", payment_method="pm_card_visa")
    deliver(api, books.events("invoice.paid")[0])
    run_jobs()
    with pytest.raises(Overtaken):
        apply_usage_invoice(old, billed)
    billed.refresh_from_db()
    assert billed.status == "paid"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"livemode": True}, "livemode_mismatch"),
        ({"livemode": "false"}, "livemode_mismatch"),
        ({"account": "acct_other"}, "wrong_account"),
    ],
)
def test_threat_155_other_account_or_mode(books, grow, api, more, reason):
    refused(deliver(api, event(**more)), 400, reason)


def test_threat_155_a_test_event_is_refused_by_a_live_key(books, grow, api, settings):
    settings.PROVIDER_STRIPE_SECRET_KEY = "sk_live_0123456789"
    refused(deliver(api, event()), 400, "livemode_mismatch")


@pytest.mark.parametrize(
    "more",
    [
        {"type": "radar.early_fraud_warning.created"}, {"api_version": "1999-01-01"}, {"api_version": None, "created": None},
        {"type": "invoice.upcoming", "data": {"object": {"object": "invoice"}}}, {"type": "x" * 500},
        {"data": {"object": {"id": 7}}}, {"id": None}, {"id": ""}, {"type": None}, {"data": None}, {"livemode": None},
        {"id": "evt_\x00"}, {"note": "\x00 \ud800"}, {"type": "invoice.\x00paid"}, {"api_version": "\x00"},
    ],
)  # fmt: skip
def test_threat_157_unknown_types_versions_and_missing_fields_are_recorded(books, grow, api, more):
    answer = deliver(api, event(**more))
    assert answer.status_code == 200, answer.json()
    assert deliver(api, event(**more)).json()["duplicate"] is True
    assert StripeEvent.objects.count() == 1


def test_threat_157_an_unknown_type_has_no_job(books, grow, api):
    deliver(api, event(type="radar.early_fraud_warning.created"))
    assert (StripeEvent.objects.get().state, jobs(APPLY)) == ("ignored", 0)


def test_threat_158_too_large_and_compressed(books, grow, api):
    refused(deliver(api, event(padding="x" * 1_100_000)), 413, "body_too_large")
    refused(deliver(api, event(padding="x" * 10_000_000)), 413, "body_too_large")
    refused(deliver(api, event(), headers={"Content-Encoding": "gzip"}), 415, "content_encoding_not_allowed")


def test_threat_159_a_crash_before_the_commit_is_a_500_and_the_retry_succeeds(books, grow, api, monkeypatch):
    def crash(_row):
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(event_services, "defer_event", crash)
        assert deliver(api, event()).status_code == 500
    assert (StripeEvent.objects.count(), jobs(APPLY)) == (0, 0)
    assert deliver(api, event()).status_code == 200
    assert (StripeEvent.objects.count(), jobs(APPLY)) == (1, 1)


def test_an_unknown_customers_invoice_changes_nothing_and_raises_an_alert(books, billed, api):
    stranger = books.post("customers", name="Stranger")
    draft = books.post("invoices", customer=stranger["id"])
    for fact in books.events("invoice.created"):
        deliver(api, fact)
    assert run_jobs() == []
    assert UsageInvoice.objects.count() == 1
    [alert] = Alert.objects.all()
    assert (alert.kind, alert.subject) == ("unknown_customer", draft["id"])
    assert StripeEvent.objects.get(object_id=draft["id"]).state == "ignored"


def test_another_clients_order_on_a_foreign_customer_raises_an_alert(books, billed, api, grow):
    stranger = books.post("customers", name="Mallory")
    copy = books.post("invoices", customer=stranger["id"], **{"metadata[pf_key]": billed.order_key})
    for fact in books.events("invoice.created"):
        deliver(api, fact)
    assert run_jobs() == []
    assert {alert.kind for alert in Alert.objects.all()} <= {"second_invoice", "foreign_customer"}
    assert Alert.objects.get().subject == copy["id"]
    billed.refresh_from_db()
    assert billed.status == "open"


def test_a_failing_event_is_retried_and_then_parked_with_an_alert(books, billed, api):
    books.post(f"invoices/{billed.stripe_invoice_id}/pay", payment_method="pm_card_visa")
    [fact] = books.events("invoice.paid")
    deliver(api, fact)
    books.fault(
        "error_before", f"/v1/invoices/{billed.stripe_invoice_id}", count=event_services.STRIPE_ATTEMPTS
    )
    row = StripeEvent.objects.get()
    for _ in range(event_services.STRIPE_ATTEMPTS - 1):
        with pytest.raises(Exception, match="stripe_unavailable"):
            event_services.apply_event(row.pk)
    event_services.apply_event(row.pk)
    row.refresh_from_db()
    assert (row.state, row.attempts) == ("parked", event_services.STRIPE_ATTEMPTS)
    assert Alert.objects.get().kind == "event_parked"
    event_services.retry_event(row, actor="operator:ada@example.com")
    assert run_jobs() == []
    row.refresh_from_db()
    billed.refresh_from_db()
    assert (row.state, billed.status) == ("applied", "paid")


def test_an_event_for_an_object_that_is_gone_is_parked_at_once(books, grow, api):
    deliver(api, event())
    assert run_jobs() == []
    assert StripeEvent.objects.get().state == "parked"


def test_what_waits_without_a_job_gets_one(books, billed, api):
    from tests.integration.portal.revenue.rig import forget_jobs

    from provider_federation.portal.revenue.services.jobs import defer_forgotten

    books.post(f"invoices/{billed.stripe_invoice_id}/pay", payment_method="pm_card_visa")
    deliver(api, books.events("invoice.paid")[0])
    assert defer_forgotten() == 0
    forget_jobs()
    assert defer_forgotten() == 1
    run_jobs()
    billed.refresh_from_db()
    assert billed.status == "paid"
