"""The placing job dies at every point there is, also by SIGKILL, and the client is billed once all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from django.db import connection
from tests.integration.portal.revenue.rig import FEBRUARY, NOW, run_jobs

from provider_federation.kit import clock
from provider_federation.portal.revenue.models import UsageInvoice
from provider_federation.portal.revenue.services import place_usage_invoice
from provider_federation.portal.subscriptions.journal import DatabaseJournal
from provider_federation.stripe_account.transport import DeadlineClient


class Crash(BaseException):
    """What nothing catches: the process is gone."""


class Bomb:
    """Goes off at the `fuse`-th point: before or after any call to Stripe, before or after any commit of the journal."""

    def __init__(self, monkeypatch, fuse):
        self.left = fuse
        for owner, name in [
            (DeadlineClient, "request"),
            (DatabaseJournal, "begin"),
            (DatabaseJournal, "finish"),
        ]:
            monkeypatch.setattr(owner, name, self.wrapped(getattr(owner, name)))

    def wrapped(self, original):
        def call(*args, **more):
            self.point()
            result = original(*args, **more)
            self.point()
            return result

        return call

    def point(self):
        self.left -= 1
        if self.left == 0:
            raise Crash


def plan(api, grow, name, leads=3, ai="7.5"):
    usage, _ = grow(name)
    usage.uses(FEBRUARY, leads, ai)
    body = {"clientOrgId": f"org_{name}", "periodStart": "2026-02-01", "periodEnd": "2026-02-28"}
    answer = api.post("/api/provider/billing/revenue", body, content_type="application/json")
    assert answer.status_code == 201, answer.json()
    return UsageInvoice.objects.get(instance__name=name)


def there(books, row):
    return [one for one in books.invoices() if one["metadata"].get("pf_key") == row.order_key]


def test_a_crash_at_every_point_bills_once(books, grow, api, monkeypatch):
    fuse, crashes = 0, 0
    while True:
        fuse += 1
        row = plan(api, grow, f"c{fuse}")
        with monkeypatch.context() as patched:
            bomb = Bomb(patched, fuse)
            try:
                place_usage_invoice(row.pk)
            except Crash:
                crashes += 1
        place_usage_invoice(row.pk)
        row.refresh_from_db()
        [invoice] = there(books, row)
        assert (invoice["status"], invoice["total"], row.status, row.total_cents) == (
            "open",
            30_750,
            "open",
            30_750,
        ), fuse
        if bomb.left > 0:
            break
    assert crashes == fuse - 1 > 20
    assert len(books.get("customers?limit=100")["data"]) == fuse
    assert api.get("/api/provider/billing/reconcile").json()["agrees"]


@pytest.mark.parametrize("path", ["/v1/customers", "/v1/invoices", "/add_lines", "/finalize", "/send"])
def test_a_week_between_the_crash_and_the_retry(books, grow, api, at, monkeypatch, path):
    row = plan(api, grow, "ada")
    original = DeadlineClient.request

    def crash_after(self, method, url, *rest):
        answer = original(self, method, url, *rest)
        if method == "post" and url.endswith(path):
            raise Crash
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(DeadlineClient, "request", crash_after)
        with pytest.raises(Crash):
            place_usage_invoice(row.pk)
    at(NOW + timedelta(days=7))
    books.simulator.control("faults", kind="forget_idempotency", key=books.key)
    place_usage_invoice(row.pk)
    row.refresh_from_db()
    [invoice] = there(books, row)
    assert (invoice["status"], invoice["total"], row.status) == ("open", 30_750, "open")
    assert len(books.get("customers")["data"]) == 1


def test_a_killed_process_and_its_successor_bill_once(books, grow, api, settings):
    row = plan(api, grow, "ada")
    books.fault("slow", "/v1/invoices/*/add_lines", seconds=5.0, method="POST")
    code = (
        "import django; django.setup()\n"
        "from uuid import UUID\n"
        "from provider_federation.portal.revenue.services import place_usage_invoice\n"
        f"print('ready', flush=True); place_usage_invoice(UUID('{row.pk}'))\n"
    )
    database = connection.settings_dict
    environment = {
        **os.environ,
        "PYTHONWARNINGS": "default",
        "DJANGO_SETTINGS_MODULE": "provider_federation.portal.settings",
        "DATABASE_URL": f"postgresql://{database['USER']}:{database['PASSWORD']}@/{database['NAME']}?host={database['HOST']}",
        "PROVIDER_STRIPE_SECRET_KEY": settings.PROVIDER_STRIPE_SECRET_KEY,
        "STRIPE_API_BASE": settings.STRIPE_API_BASE,
    }
    victim = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout.readline().strip() == "ready"
    deadline = clock.monotonic() + 60
    while not (invoices := there(books, row)) or not invoices[0]["lines"]["data"]:
        assert clock.monotonic() < deadline
        assert victim.poll() is None
    victim.send_signal(signal.SIGKILL)
    victim.wait(10)
    victim.stdout.close()
    row.refresh_from_db()
    assert row.status == "placing"
    assert run_jobs() == []
    row.refresh_from_db()
    [invoice] = there(books, row)
    assert (invoice["status"], invoice["total"], row.status, row.attempts) == ("open", 30_750, "open", 2)


def test_two_workers_on_one_invoice_bill_once(books, grow, api):
    from concurrent.futures import ThreadPoolExecutor

    row = plan(api, grow, "ada")

    def work(_number):
        try:
            place_usage_invoice(row.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    row.refresh_from_db()
    assert ([one["status"] for one in there(books, row)], row.status) == (["open"], "open")


def test_what_stripe_refuses_for_good_is_held_and_a_person_sends_it_again(books, grow, api, settings):
    from provider_federation.portal.revenue.models import Alert

    row = plan(api, grow, "ada")
    good, settings.PROVIDER_STRIPE_SECRET_KEY = settings.PROVIDER_STRIPE_SECRET_KEY, "sk_wrong"
    assert run_jobs() == []
    row.refresh_from_db()
    assert (row.status, row.hold_code) == ("held", "stripe_not_authorised")
    assert Alert.objects.get().kind == "placing_refused"
    settings.PROVIDER_STRIPE_SECRET_KEY = good
    answer = api.post(
        f"/api/provider/billing/invoices/{row.pk}/release", content_type="application/json"
    ).json()
    assert (answer["invoice"]["status"], answer["invoice"]["totalCents"]) == ("planned", 30_750)
    assert run_jobs() == []
    assert [one["total"] for one in there(books, row)] == [30_750]
