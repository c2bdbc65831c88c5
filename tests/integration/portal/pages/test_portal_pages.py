"""Every page, as every role; and what may never be on one."""

from __future__ import annotations

import copy
import re
from html import unescape

import pytest
from django.db import transaction
from django.test import Client
from tests.browser import portal_seed
from tests.integration.portal.pages.addresses import ASKING, READ_PAGES, WRITES, path_of

from provider_federation.portal.dashboard.urls import urlpatterns
from provider_federation.portal.operators.models import Operator
from provider_federation.portal.operators.permissions import PERMISSIONS

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def filled(django_db_setup, django_db_blocker):
    """The tables, filled once; each test has a savepoint of its own on top of them."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield portal_seed.fill()
        transaction.set_rollback(True)


@pytest.fixture
def seeded(filled, db):
    return copy.deepcopy(filled)  # tests change the rows they hold


def operator(role: str) -> Operator:
    return Operator.objects.create(email=f"{role}@pages.example", name=role.title(), role=role)


def signed_in(role: str) -> Client:
    client = Client()
    client.force_login(operator(role), "allauth.account.auth_backends.AuthenticationBackend")
    return client


def test_every_address_is_in_the_matrix():
    assert {pattern.name for pattern in urlpatterns} == {*READ_PAGES, *WRITES, *ASKING}


@pytest.mark.parametrize("role", sorted(PERMISSIONS))
def test_the_matrix_of_roles_and_pages(seeded, role):
    client = signed_in(role)
    for name, permission in READ_PAGES.items():
        expected = 200 if permission in PERMISSIONS[role] else 403
        assert client.get(path_of(name, seeded)).status_code == expected, name


@pytest.mark.parametrize("role", sorted(PERMISSIONS))
def test_the_matrix_of_roles_and_refused_writes(seeded, role):
    client = signed_in(role)
    for name, permission in WRITES.items():
        if permission not in PERMISSIONS[role]:
            assert client.post(path_of(name, seeded)).status_code == 403, name
    for name, permission in ASKING.items():
        if permission not in PERMISSIONS[role]:
            assert client.get(path_of(name, seeded)).status_code == 403, name


def test_writes_take_post_only(seeded):
    client = signed_in("admin")
    assert {client.get(path_of(name, seeded)).status_code for name in WRITES} == {405}


def test_strangers_are_sent_to_the_sign_in(client, seeded):
    for name in READ_PAGES:
        answer = client.get(path_of(name, seeded))
        assert answer.headers["Location"].startswith("/accounts/login/?next="), name
    assert {client.post(path_of(name, seeded)).status_code for name in WRITES} == {302}


def test_pages_ask_no_instance_and_no_stripe(seeded, monkeypatch):
    """Sockets are refused outside loopback by pytest-socket; here even those on it."""
    import socket

    from django.db import connection

    connection.ensure_connection()

    def refuse(*_arguments, **_named):
        raise AssertionError("a page opened a connection")

    client = signed_in("admin")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in READ_PAGES:
        assert client.get(path_of(name, seeded)).status_code == 200, name


def test_no_secret_is_on_any_page(seeded):
    from provider_federation.portal.directory.keys import open_key
    from provider_federation.portal.operators.services import create_token

    token, secret = create_token(name="one", role="admin", actor="t")
    instance = seeded["instances"][0]
    key = instance.keys.get()
    hidden = [open_key(key, instance).secret.decode(), key.sealed, secret, token.digest, "argon2$"]
    client = signed_in("admin")
    for name in READ_PAGES:
        text = client.get(path_of(name, seeded)).content.decode()
        assert not [one for one in hidden if one in text], name
    assert key.key_id in client.get(path_of("instance", seeded)).content.decode()


def test_what_others_wrote_is_text_and_never_markup(seeded):
    from provider_federation.portal.fleet.models import ClientInvoice, FleetCall

    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    for instance in seeded["instances"]:
        instance.title = instance.notes = instance.check_message = evil
        instance.save()
    ClientInvoice.objects.update(customer_name=evil, number=evil[:60])
    FleetCall.objects.update(
        sentence=evil,
        result={
            "lines": [{"leadPublicId": evil}, 7, None],
            "sent": [{"id": evil, "stripe": evil}],
            "failed": "no list",
            "invoices": [[]],
            "count": {},
            "totalCents": "x",
            "currency": evil,
        },
    )
    client = signed_in("admin")
    for name in READ_PAGES:
        if name.endswith("-csv") or name == "statement-file":  # for a spreadsheet, never shown as a page
            continue
        text = client.get(path_of(name, seeded)).content.decode()
        assert "<script>alert" not in text, name
        assert "<img src=x" not in text, name


def test_no_page_has_an_inline_script_or_another_host(seeded):
    client = signed_in("admin")
    for name in READ_PAGES:
        answer = client.get(path_of(name, seeded))
        text = unescape(answer.content.decode())
        assert not re.findall(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>", text), name
        assert not re.findall(r"\son[a-z]+=\"", text), name
        loaded = re.findall(r'<(?:script|img|link|iframe)[^>]*(?:src|href)="([^"]+)"', text)
        assert all(one.startswith(("/static/", "data:")) for one in loaded), name
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    "query",
    [
        "sort=password",
        "sort=-instance__keys__sealed",
        "sort=%00",
        "page=abc",
        "page=999999999",
        "page=-1",
        "q=%00%25_",
        "q=" + "x" * 5000,
        "status=nope",
        "instance=nope",
        "month=9999-99",
        "month=0000-01",
        "month=99999-1",
        "q=%ED%A0%80",
        "health=1",
        "action=x",
        "kind=x",
        "cursor=x",
        "cursor=%00",
        "actor=%00",
        "subject=%00",
        "period=9999-99",
        "period=0000-00",
        "period=%00",
        "range=x",
        "plan=1",
        "state=1",
        "month=%D9%A2%D9%A0%D9%A2%D9%A6-%D9%A0%D9%A1",
    ],
)
def test_a_strange_address_is_a_page_and_never_a_failure(seeded, query):
    client = signed_in("admin")
    for name in (
        "overview",
        "instances",
        "runs",
        "new-run",
        "invoices",
        "invoices-csv",
        "subscriptions",
        "revenue",
        "usage-invoices",
        "webhooks",
        "operators",
        "audit",
        "instance",
        "client-revenue",
        "add-subscription",
        "billing-runs",
        "receivables",
        "receivables-csv",
        "lead-disputes",
        "reconciliations",
        "reports",
    ):
        assert client.get(f"{path_of(name, seeded)}?{query}").status_code == 200, (name, query)


@pytest.mark.parametrize(
    "path",
    [
        "/instances/00000000-0000-0000-0000-000000000000/",
        "/runs/00000000-0000-0000-0000-000000000000/",
        "/instances/1/",
        "/runs/x/",
        "/usage-invoices/00000000-0000-0000-0000-000000000000/",
        "/subscriptions/00000000-0000-0000-0000-000000000000/",
        "/revenue/00000000-0000-0000-0000-000000000000/2026-01/",
        "/operators/99999/",
        "/operators/99999999999999999999999/",
    ],
)
def test_unknown_things_are_not_found(path):
    assert signed_in("admin").get(path).status_code == 404


def test_the_figures_of_the_overview_are_the_mirror_s(seeded):
    from django.db.models import Sum

    from provider_federation.portal.fleet.models import ClientInvoice

    text = signed_in("admin").get("/").content.decode()
    billed = ClientInvoice.objects.filter(status__in=["open", "paid", "uncollectible"]).aggregate(
        sum=Sum("total_cents")
    )["sum"]
    assert f"${billed / 100:,.2f}" in text
    assert "3 of 4" in text
    assert "Driftwood Studios" in text
    assert "held for review" in text


def test_lists_filter_sort_and_page(seeded):
    client = signed_in("admin")
    acme = seeded["instances"][0]
    text = client.get(f"/instances/{acme.pk}/?status=paid&sort=total").content.decode()
    shown = [int(one.replace(",", "")) for one in re.findall(r'data-label="Total"[^>]*>\$([\d,]+)\.00', text)]
    assert shown == sorted(shown)
    assert len(shown) == 10
    more = client.get(f"/instances/{acme.pk}/?status=paid&sort=total&page=2").content.decode()
    assert "status=paid" in more
    assert ">Draft<" not in text.split("<tbody>")[-1]
    assert "ACME-" in client.get("/invoices/?q=acme-0").content.decode()
    assert "Nothing found" in client.get("/invoices/?q=no-such-customer").content.decode()


def test_the_csv_has_the_same_filters_and_no_formulas(seeded):
    from provider_federation.portal.audit.models import AuditEvent
    from provider_federation.portal.fleet.models import ClientInvoice

    acme = seeded["instances"][0]
    ClientInvoice.objects.filter(instance=acme, status="paid").update(
        customer_name='=HYPERLINK("http://evil")'
    )
    answer = signed_in("billing").get(f"/invoices/invoices.csv?instance={acme.pk}&status=paid")
    lines = answer.content.decode().splitlines()
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert len(lines) - 1 == ClientInvoice.objects.filter(instance=acme, status="paid").count()
    assert all("'=HYPERLINK" in line for line in lines[1:])
    assert AuditEvent.objects.filter(kind="export.made", actor="operator:billing@pages.example").count() == 1


def test_the_provider_s_months_add_up_to_the_ledger(seeded):
    from provider_federation.portal.dashboard.billed import billed_by_month
    from provider_federation.portal.dashboard.charts import charted_months
    from provider_federation.portal.receivables.ledger import ledger_totals

    assert sum(one.cents for one in billed_by_month(charted_months())) == ledger_totals()["usd"].billed


def test_the_admin_changes_nothing(seeded):
    from django.contrib import admin

    assert [model.__name__ for model in admin.site._registry] == ["ProcrastinateJob"]
    client = signed_in("admin")
    jobs = "/admin/procrastinate/procrastinatejob/"
    assert client.get("/admin/").headers["Location"] == "/"
    assert (client.get(jobs).status_code, client.get(f"{jobs}add/").status_code) == (200, 403)
    assert signed_in("support").get(jobs).status_code == 403


def test_a_reason_is_told_in_words_and_people_by_their_address(seeded):
    client = signed_in("billing")
    run = client.get(path_of("billing-run", seeded)).content.decode()
    item = client.get(path_of("billing-item", seeded)).content.decode()
    assert "1: a jump in usage" in run
    assert "operator:" not in run
    assert not [one for one in (run, item) if "usage_jump" in one]


def test_what_cannot_be_held_against_last_month_is_a_dash(seeded):
    held = signed_in("billing").get(f"{path_of('billing-run', seeded)}?state=held").content.decode()
    row = held[held.index("<tbody>") : held.index("</tbody>")]
    assert row.count("—") == 3  # lines, total and difference


def test_support_reads_a_dispute_and_does_not_decide_it(seeded):
    client, path = signed_in("support"), path_of("lead-dispute", seeded)
    page = client.get(path)
    assert (page.status_code, b"Accept and credit" in page.content) == (200, False)
    assert client.post(path, {"decision": "yes", "accept": "1"}).status_code == 403
    seeded["dispute"].refresh_from_db()
    assert seeded["dispute"].state == "open"


def test_what_is_owed_is_exported_as_it_is_shown(seeded):
    answer = signed_in("billing").get(path_of("receivables-csv") + "?only=overdue&sort=amount")
    heading, *rows = answer.content.decode().splitlines()
    assert heading.startswith("client,instance,invoice,kind,currency,total (minor units)")
    assert [row.split(",")[2:7] for row in rows] == [["PF-0000", "usage", "USD", "30000", "30000"]]


def test_the_overview_leads_to_what_waits_in_the_money_s_rooms(seeded):
    text = signed_in("billing").get("/").content.decode()
    for says in ("waits for approval", "$300.00 is overdue", "1 lead dispute waits", "2 differences between"):
        assert says in text, says


def test_a_statement_is_a_page_a_pdf_or_a_csv(seeded):
    client, page = signed_in("billing"), path_of("statement", seeded)
    kinds = [client.get(f"{page[:-1]}.{ending}").headers["Content-Type"] for ending in ("pdf", "csv")]
    assert kinds == ["application/pdf", "text/csv; charset=utf-8"]
    assert client.get(f"{page[:-1]}.exe").status_code == 404
