"""What the pages' forms do: runs are confirmed and queued, instances and subscriptions changed, errors said in place."""

from __future__ import annotations

import re
import uuid

import pytest
from django.test import Client, override_settings
from procrastinate.contrib.django.models import ProcrastinateJob
from tests.browser import portal_seed

from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.fleet.models import CallStatus, FleetCall, FleetRun
from provider_federation.portal.operators.models import ApiToken, Operator
from provider_federation.portal.revenue.models import Alert, StripeEvent

pytestmark = pytest.mark.django_db
NEW_RUN = "/runs/new/"


@pytest.fixture
def seeded():
    return portal_seed.fill()


@pytest.fixture
def admin():
    client = Client()
    client.force_login(
        Operator.objects.create(email="adm@pages.example", role="admin"),
        "allauth.account.auth_backends.AuthenticationBackend",
    )
    return client


def ids(seeded, *at: int) -> list[str]:
    return [str(seeded["instances"][one].pk) for one in at]


def hidden_fields(text: str) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(
        r'<input type="hidden" name="([^"]+)" value="([^"]*)"', text.split("<main")[1]
    ):
        fields.setdefault(name, []).append(value)
    return fields


def test_who_joined_since_the_confirmation_is_confirmed_too(admin, seeded):
    Instance.objects.filter(pk=ids(seeded, 0)[0]).update(enabled=False)
    shown = admin.post(NEW_RUN, {"action": "send", "all": "1"}).content.decode()
    Instance.objects.update(enabled=True)
    before = FleetRun.objects.count()
    again = admin.post(NEW_RUN, hidden_fields(shown)).content.decode()
    assert FleetRun.objects.count() == before
    assert "changed" in again
    assert admin.post(NEW_RUN, hidden_fields(again)).status_code == 302
    assert FleetRun.objects.count() == before + 1


def test_a_token_until_the_end_of_the_calendar_is_a_word_at_its_field(admin):
    answer = admin.post("/operators/tokens/add/", {"name": "t", "role": "support", "expires": "9999-12-31"})
    assert answer.status_code == 200
    assert not ApiToken.objects.exists()


def test_a_preview_starts_at_once_and_leads_to_its_run(admin, seeded):
    answer = admin.post(NEW_RUN, {"action": "preview", "instance": ids(seeded, 0, 1), "range": "d7"})
    run = FleetRun.objects.get(created_at__gt=seeded["run"].created_at)
    assert answer.headers["Location"] == f"/runs/{run.pk}/"
    assert (run.action, run.params, run.requested_by, run.calls.count()) == (
        "preview",
        {"range": "d7"},
        "operator:adm@pages.example",
        2,
    )
    assert ProcrastinateJob.objects.filter(task_name="fleet.run_shard").count() == 1
    text = admin.get(f"/runs/{run.pk}/").content.decode()
    assert 'hx-trigger="every 1s"' in text
    assert "0 of 2 finished" in text


@pytest.mark.parametrize(("action", "says"), [("draft", "reserved"), ("send", "Finalised is final")])
def test_what_changes_something_is_confirmed_first(admin, seeded, action, says):
    asked = {
        "action": action,
        "instance": ids(seeded, 0, 1),
        "range": "custom",
        "start": "2026-01-01",
        "end": "2026-01-31",
    }
    text = admin.post(NEW_RUN, asked).content.decode()
    assert FleetRun.objects.count() == 1
    assert says in text
    assert "Acme Home Services" in text
    fields = hidden_fields(text)
    for _twice in range(2):
        answer = admin.post(NEW_RUN, fields)
    run = FleetRun.objects.exclude(pk=seeded["run"].pk).get()
    assert answer.headers["Location"] == f"/runs/{run.pk}/", "the second click leads to the same run"
    assert run.action == action
    assert run.params == ({"start": "2026-01-01", "end": "2026-01-31"} if action == "draft" else {})


def test_one_invoice_is_sent_by_its_id(admin, seeded):
    asked = {"action": "send", "instance": ids(seeded, 0), "invoice": ["inv_7"]}
    admin.post(NEW_RUN, hidden_fields(admin.post(NEW_RUN, asked).content.decode()))
    call = FleetCall.objects.get(subject="inv_7")
    assert call.run.params == {"invoiceIds": ["inv_7"]}


def test_all_means_the_enabled_ones(admin, seeded):
    Instance.objects.filter(pk=ids(seeded, 3)[0]).update(enabled=False)
    admin.post(NEW_RUN, {"action": "sync", "all": "1"})
    assert FleetRun.objects.get(action="sync").calls.count() == 3


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "Choose what to do"),
        ({"action": "explode"}, "Choose what to do"),
        ({"action": "preview"}, "Choose at least one instance"),
        ({"action": "preview", "instance": "nope"}, "Choose at least one instance"),
        ({"action": "preview", "all": "1", "range": "custom"}, "first and the last day"),
        ({"action": "preview", "all": "1", "range": "custom", "start": "x", "end": "y"}, "cannot be read"),
        (
            {"action": "preview", "all": "1", "range": "custom", "start": "2026-02-30", "end": "2026-03-01"},
            "cannot be read",
        ),
        ({"action": "send", "all": "1", "invoice": "a"}, "on one instance"),
    ],
)
def test_a_run_that_makes_no_sense_is_told_so(admin, seeded, fields, says):
    answer = admin.post(NEW_RUN, {**fields, "confirmed": "1"}, follow=True)
    assert says in answer.content.decode()
    assert FleetRun.objects.count() == 1


def test_cancel_and_retry(admin, seeded):
    run = seeded["run"]
    admin.post(f"/runs/{run.pk}/retry/")
    assert run.calls.filter(status=CallStatus.WAITING).count() == 1
    admin.post(f"/runs/{run.pk}/cancel/")
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert "nothing left to cancel" in admin.post(f"/runs/{run.pk}/cancel/", follow=True).content.decode()
    assert "was cancelled" in admin.post(f"/runs/{run.pk}/retry/", follow=True).content.decode()


FORM = {
    "name": "elm",
    "title": "Elm",
    "org_id": "org_elm",
    "base_url": "http://127.0.0.1:18999",
    "key_id": "k1",
    "algorithm": "sha256",
    "secret": "tM8-3vJq_kZ1xW5eLrB7nY2cUa9oDf4s",
    "scope": "provider",
    "environment": "test",
    "currency": "usd",
    "ai_cap": "12.50",
    "billing_email": "",
    "notes": "",
}


@override_settings(ALLOWED_PRIVATE_HOSTS=("127.0.0.1",))
def test_an_instance_is_added_checked_and_its_secret_never_comes_back(admin):
    answer = admin.post("/instances/add/", FORM, follow=True)
    added = Instance.objects.get(name="elm")
    assert (added.ai_cap_cents, added.title, added.check_ok) == (1250, "Elm", False)
    text = answer.content.decode()
    assert "The check failed" in text
    assert FORM["secret"] not in text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "127.0.0.1"),
        ({"base_url": "ftp://x"}, "URL"),
        ({"base_url": "http://169.254.169.254"}, ""),
        ({"name": "Not A Slug"}, "slug"),
        ({"secret": "short"}, "secret"),
        ({"ai_cap": "x"}, "number"),
        ({"currency": "xxx"}, "choice"),
        ({"org_id": ""}, "required"),
    ],
)
def test_an_instance_that_cannot_be_is_refused_at_its_field(admin, changes, says):
    answer = admin.post("/instances/add/", {**FORM, **changes})
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "pf-field__error" in text or "pf-notice--bad" in text
    assert says.lower() in text.lower()
    assert FORM["secret"] not in text
    assert not Instance.objects.exists()


def test_two_operators_at_once_are_told_apart(admin, seeded):
    acme = seeded["instances"][0]
    fields = {
        "title": "New",
        "base_url": acme.base_url,
        "environment": "production",
        "currency": "usd",
        "ai_cap": "50",
        "billing_email": "",
        "notes": "",
        "version": 1,
    }
    with override_settings(ALLOWED_PRIVATE_HOSTS=("127.0.0.1",)):
        assert admin.post(f"/instances/{acme.pk}/edit/", fields).status_code == 302
        text = admin.post(f"/instances/{acme.pk}/edit/", {**fields, "title": "Other"}).content.decode()
    assert "Somebody else changed this instance" in text
    acme.refresh_from_db()
    assert (acme.title, acme.version) == ("New", 2)


def test_disable_and_enable(admin, seeded):
    acme = seeded["instances"][0]
    assert (
        "no longer calls"
        in admin.post(
            f"/instances/{acme.pk}/switch/", {"version": 1, "to": "disabled"}, follow=True
        ).content.decode()
    )
    assert (
        "Somebody else"
        in admin.post(
            f"/instances/{acme.pk}/switch/", {"version": 1, "to": "enabled"}, follow=True
        ).content.decode()
    )
    assert admin.post(f"/instances/{acme.pk}/switch/", {"version": "x", "to": "enabled"}).status_code == 302
    acme.refresh_from_db()
    assert not acme.enabled


def test_a_check_is_a_job_and_the_page_watches_it(admin, seeded):
    acme = seeded["instances"][0]
    assert admin.post(f"/instances/{acme.pk}/check/").headers["Location"] == f"/instances/{acme.pk}/"
    assert 'hx-trigger="every 2s"' in admin.get(f"/instances/{acme.pk}/").content.decode()
    FleetCall.objects.update(status="ok")
    assert "hx-trigger" not in admin.get(f"/instances/{acme.pk}/state/").content.decode()


def test_a_new_key_replaces_the_old_one(admin, seeded):
    acme = seeded["instances"][0]
    fields = {"version": 1, "key_id": "k2", "algorithm": "sha256", "secret": FORM["secret"], "scope": "read"}
    assert admin.post(f"/instances/{acme.pk}/key/", fields).status_code == 302
    assert [(key.key_id, key.retired_at is None) for key in acme.keys.order_by("key_id")] == [
        ("acme-key-1", False),
        ("k2", True),
    ]


def test_operators_and_tokens(admin):
    fields = {
        "email": "new@pages.example",
        "name": "New",
        "role": "billing",
        "password": portal_seed.PASSWORD,
    }
    admin.post("/operators/add/", fields)
    made = Operator.objects.get(email="new@pages.example")
    assert "is an operator already" in admin.post("/operators/add/", fields).content.decode()
    assert (
        "too common"
        in admin.post(
            "/operators/add/", {**fields, "email": "x@y.example", "password": "password1234"}
        ).content.decode()
    )
    admin.post(f"/operators/{made.pk}/", {"name": "New", "role": "support"})
    made.refresh_from_db()
    assert (made.role, made.is_active) == ("support", False)
    me = Operator.objects.get(role="admin")
    assert (
        "last active admin"
        in admin.post(
            f"/operators/{me.pk}/", {"name": "", "role": "support", "is_active": "on"}
        ).content.decode()
    )
    text = admin.post(
        "/operators/tokens/add/", {"name": "nightly", "role": "support", "expires": ""}
    ).content.decode()
    assert re.search(r"pft_[A-Za-z0-9_-]{43}", text)
    token = ApiToken.objects.get()
    admin.post(f"/operators/tokens/{token.pk}/revoke/")
    token.refresh_from_db()
    assert token.state == "revoked"
    assert (
        "no such token"
        in admin.post(f"/operators/tokens/{uuid.uuid4()}/revoke/", follow=True).content.decode()
    )


def test_nobody_makes_themselves_more_than_they_are(seeded):
    client = Client()
    support = Operator.objects.create(email="sup@pages.example", role="support")
    client.force_login(support, "allauth.account.auth_backends.AuthenticationBackend")
    answer = client.post(
        f"/operators/{support.pk}/", {"name": "", "role": "admin", "is_active": "on", "is_superuser": "on"}
    )
    support.refresh_from_db()
    assert (answer.status_code, support.role) == (403, "support")


@override_settings(PROVIDER_STRIPE_SECRET_KEY="")
def test_a_subscription_without_stripe_says_which_setting_is_missing(admin, seeded):
    cedar = seeded["instances"][2]
    text = admin.post("/subscriptions/add/", {"instance": cedar.pk, "plan": "PRO"}).content.decode()
    assert "PROVIDER_STRIPE" in text
    assert (
        "begins with pm_"
        in admin.post(
            "/subscriptions/add/", {"instance": cedar.pk, "plan": "PRO", "payment_method": "tok_1"}
        ).content.decode()
    )
    answer = admin.post("/subscriptions/add/", {"instance": cedar.pk, "plan": "BASE"}, follow=True)
    assert "Created." in answer.content.decode()


@override_settings(ALLOWED_PRIVATE_HOSTS=("127.0.0.1",))
def test_usage_that_cannot_be_read_is_no_zero(admin, seeded):
    drift, month = seeded["instances"][3], seeded["usage"][0].period
    text = admin.get(f"/revenue/{drift.pk}/{month}/now/").content.decode()
    assert "not known right now" in text
    assert "$0.00" not in text
    assert "4" in admin.get(f"/revenue/now/?period={month}").content.decode()
    answer = admin.post(f"/revenue/{drift.pk}/{month}/invoice/", follow=True)
    assert "pf-notice--bad" in answer.content.decode()
    assert drift.usage_invoices.count() == 0
    assert (
        "billing month" in admin.get("/revenue/now/?period=x").content.decode()
        or "YYYY-MM" in admin.get("/revenue/now/?period=x").content.decode()
    )


def test_a_finished_usage_invoice_is_answered_again(admin, seeded):
    usage = seeded["usage"][1]
    answer = admin.post(f"/revenue/{usage.instance_id}/{usage.period}/invoice/", follow=True)
    assert "is paid" in answer.content.decode()
    assert (
        "only a held one" in admin.post(f"/usage-invoices/{usage.pk}/release/", follow=True).content.decode()
    )


def test_events_and_alerts_are_seen_to(admin, seeded):
    event = seeded["event"]
    admin.post(f"/webhooks/{event.pk}/retry/")
    assert StripeEvent.objects.get(pk=event.pk).state == "pending"
    alert = Alert.objects.get()
    admin.post(f"/webhooks/alerts/{alert.pk}/resolve/")
    alert.refresh_from_db()
    assert alert.resolved_at is not None
    assert AuditEvent.objects.filter(
        actor="operator:adm@pages.example", kind="revenue.alert_resolved"
    ).exists()


def test_a_subscription_ends_with_its_period_or_now(admin, seeded):
    free = Instance.objects.get(name="cedar")
    admin.post("/subscriptions/add/", {"instance": free.pk, "plan": "BASE"})
    row = free.subscriptions.get()
    admin.post(f"/subscriptions/{row.pk}/cancel/", {"when": "now"})
    row.refresh_from_db()
    assert row.ended
