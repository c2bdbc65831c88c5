"""Lists, figures and the actions on leads and invoices, as people meet them."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from tests.integration.instance.pages.conftest import MakeLead, World

from provider_federation.instance.invoicing.models import EventState, Invoice, StripeEvent
from provider_federation.instance.invoicing.services import raise_alert
from provider_federation.instance.leads.models import Customer, Lead
from provider_federation.instance.leads.services import add_customer
from provider_federation.instance.pages.views.invoices import web_address
from provider_federation.instance.pages.views.usage import exact_text
from provider_federation.instance.usage.services import record_ai_usage
from provider_federation.kit import clock
from provider_federation.kit.csv_cells import safe_cell

Stand = Callable[[datetime], None]


def text_of(client: Client, target: str, status: int = 200) -> str:
    answer = client.get(target)
    assert answer.status_code == status, answer.content.decode()
    return html.unescape(answer.content.decode())


def hidden_lines(page: str) -> str:
    found = re.search(r'name="lines" value="([^"]*)"', page)
    assert found is not None
    return found[1]


def test_the_overview_counts_and_adds_up(owner: Client, world: World, make_lead: MakeLead) -> None:
    make_lead(currency="eur", days_ago=0, price_cents=5_005)
    raise_alert("unknown_invoice", "cus_other", "Stripe reports an invoice that this instance did not make.")
    StripeEvent.objects.create(
        event_id="evt_1",
        type="invoice.paid",
        payload="{}",
        received_at=clock.now(),
        state=EventState.PENDING,
        attempts=2,
        last_error="api_error",
    )
    page = text_of(owner, "/")
    assert "$123.45" in page
    assert "€50.05" in page
    assert "cus_other" in page
    assert "could not be applied" in page
    assert "evt_1" in text_of(owner, "/alerts")
    Invoice.objects.filter(pk=world.draft.pk).update(status="open", amount_paid_cents=345)
    assert "$120.00" in text_of(owner, "/")


@pytest.mark.parametrize(
    ("mode", "environment", "says"),
    [
        ("off", {}, "PROVIDER_FEDERATION_ENABLED=1"),
        (
            "h31",
            {"PROVIDER_FEDERATION_ENABLED": "1", "PROVIDER_KEYS_JSON": '{"k": "any-secret"}'},
            "h31 protects nothing",
        ),
        (
            "sha256",
            {"PROVIDER_FEDERATION_ENABLED": "1", "PROVIDER_FEDERATION_SIG_SHA256": "1"},
            "instance invite",
        ),
        (
            "v2",
            {
                "PROVIDER_FEDERATION_ENABLED": "1",
                "PROVIDER_KEYS_JSON": '{"k": {"public_key": "' + "ab" * 32 + '"}}',
                "PROVIDER_RESPONSE_KEY_JSON": '{"id": "a", "secret": "' + "cd" * 32 + '"}',
            },
            "nothing to do",
        ),
    ],
)
def test_the_banner_of_each_mode(
    owner: Client, settings: Any, mode: str, environment: dict[str, str], says: str
) -> None:
    from provider_federation.protocol.config import read_environment

    settings.FEDERATION = read_environment({**environment, "PROVIDER_FEDERATION_ENV": "development"})
    for target in ("/", "/federation"):
        page = text_of(owner, target)
        assert f"Mode {mode}" in page
        assert says in page
        assert ("Not enabled" in page) == (mode == "off")
    assert ("No key is set, so" in page) == (mode == "sha256")


def test_leads_are_filtered_sorted_and_paged(owner: Client, world: World, make_lead: MakeLead) -> None:
    held = world.draft.lines.get().lead.public_id
    assert held in text_of(owner, "/leads?billed=invoiced")
    assert held not in text_of(owner, "/leads?billed=billable")
    assert world.billable.public_id in text_of(owner, "/leads?billed=billable&status=converted")
    assert world.fresh.public_id in text_of(owner, "/leads?billed=no")
    assert world.fresh.public_id in text_of(owner, f"/leads?q={world.fresh.public_id.lower()}")
    assert "No lead fits" in text_of(owner, "/leads?q=%25")
    for number in range(30):
        make_lead(price_cents=20_000 + number)
    shown = text_of(owner, "/leads?sort=-price")
    assert shown.index("$200.29") < shown.index("$200.28")
    assert "1\u201325 of 33" in shown
    assert "26\u201333 of 33" in text_of(owner, "/leads?sort=-price&page=2")
    assert 'aria-sort="descending"' in shown


@pytest.mark.parametrize("query", ["?status=nonsense", "?billed=x", "?q=" + "x" * 200, "?q=a%00b"])
@pytest.mark.parametrize("target", ["/leads", "/invoices"])
def test_a_filter_that_cannot_be_meant_shows_nothing(
    owner: Client, world: World, target: str, query: str
) -> None:
    page = text_of(owner, target + query)
    assert ("fits this filter" in page) == (target == "/leads" or "billed" not in query)


@pytest.mark.parametrize(
    "query",
    [
        "?page=0",
        "?page=-1",
        "?page=x",
        "?page=99999999999999999999",
        "?sort=password",
        "?sort=--created",
        "?sort=",
        "?page=٣",
        "?sort=customer__email",
    ],
)
@pytest.mark.parametrize("target", ["/leads", "/invoices", "/customers"])
def test_a_page_or_sort_that_is_none_is_the_first(
    owner: Client, world: World, target: str, query: str
) -> None:
    assert "1\u2013" in text_of(owner, target + query)


def test_empty_lists_say_what_comes(owner: Client) -> None:
    for target, says in [
        ("/leads", "No lead has come in yet"),
        ("/customers", "No customer yet"),
        ("/invoices", "No invoice yet"),
        ("/alerts", "Nothing needs attention"),
        ("/billing", "Nothing in this window"),
    ]:
        assert says in text_of(owner, target)


def test_names_are_text(owner: Client, make_lead: MakeLead) -> None:
    make_lead(to=add_customer("<script>alert(1)</script>", "x@x.example"))
    for target in ("/", "/leads", "/customers", "/billing", "/billing/draft"):
        assert b"<script>" not in owner.get(target).content


def test_converting_happens_once(owner: Client, world: World, clock_file: Stand) -> None:
    target = f"/leads/{world.fresh.pk}/convert"
    clock_file(datetime(2027, 1, 5, tzinfo=UTC))
    assert "cannot be taken back" in text_of(owner, target)
    assert Lead.objects.get(pk=world.fresh.pk).converted_at is None
    assert owner.post(target).status_code == 302
    clock_file(datetime(2027, 2, 5, tzinfo=UTC))
    assert owner.post(target).status_code == 302
    assert Lead.objects.get(pk=world.fresh.pk).converted_at == datetime(2027, 1, 5, tzinfo=UTC)
    text_of(owner, target, 409)


def test_eligible_or_not(owner: Client, world: World) -> None:
    for _ in range(2):
        owner.post(f"/leads/{world.billable.pk}/not-eligible")
        assert "marked as not eligible" in text_of(owner, f"/leads/{world.billable.pk}")
    owner.post(f"/leads/{world.billable.pk}/eligible")
    assert "Billable now." in text_of(owner, f"/leads/{world.billable.pk}")


def test_drafting_is_what_was_shown_and_once(owner: Client, world: World, make_lead: MakeLead) -> None:
    lines = hidden_lines(text_of(owner, "/billing/draft?range=d30"))
    later = make_lead(price_cents=700)
    first = owner.post("/billing/draft", {"lines": lines})
    second = owner.post("/billing/draft", {"lines": lines})
    assert first["Location"] == second["Location"]
    made = Invoice.objects.exclude(pk=world.draft.pk).get()
    assert [line.lead_id for line in made.lines.all()] == [world.billable.pk]
    page = text_of(owner, "/billing")
    assert later.public_id in page
    assert "Nothing new: 1 draft held" in page


def test_a_price_that_changed_since_the_preview_drafts_nothing(owner: Client, world: World) -> None:
    lines = hidden_lines(text_of(owner, "/billing/draft"))
    Lead.objects.filter(pk=world.billable.pk).update(price_cents=1)
    assert owner.post("/billing/draft", {"lines": lines}).status_code == 409
    assert Invoice.objects.count() == 1


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "x",
        "[]",
        "{}",
        "[[1]]",
        "[[1,2,3.0]]",
        "[[true,1,1]]",
        "[[1,null,1]]",
        "[[-1,1,1]]",
        f"[[{2**63},1,1]]",
        "[" * 5_000,
        '[["1",1,1]]',
    ],
)
def test_lines_that_are_none_draft_nothing(owner: Client, world: World, lines: str) -> None:
    assert owner.post("/billing/draft", {"lines": lines}).status_code == 400
    assert Invoice.objects.count() == 1


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("[[999999,1,1]]", 404),
        ("[[{lead},1,1],[{lead},1,1]]", 400),
        ("[" + ",".join(f"[{n},1,1]" for n in range(1, 1_002)) + "]", 409),
    ],
)
def test_lines_that_cannot_be_billed(owner: Client, world: World, lines: str, status: int) -> None:
    answer = owner.post("/billing/draft", {"lines": lines.replace("{lead}", str(world.billable.pk))})
    assert answer.status_code == status


@pytest.mark.parametrize(
    "query",
    [
        "?range=x",
        "?range=dates",
        "?range=dates&start=2026-02-30&end=2026-03-01",
        "?range=d7&start=2026-01-01&end=2026-01-02",
        "?start=2026-01-01",
        "?start=0000-01-01&end=2026-01-01",
    ],
)
@pytest.mark.parametrize("target", ["/billing", "/billing/draft"])
def test_a_window_that_cannot_be_read(owner: Client, target: str, query: str) -> None:
    text_of(owner, target + query, 422)


def test_a_window_of_days(owner: Client, world: World) -> None:
    today = f"{clock.now():%Y-%m-%d}"
    start = f"{clock.now() - timedelta(days=5):%Y-%m-%d}"
    assert world.billable.public_id in text_of(owner, f"/billing?range=dates&start={start}&end={today}")
    assert "Nothing in this window" in text_of(owner, "/billing?range=dates&start=2020-01-01&end=2020-01-31")
    assert "Nothing in this window" in text_of(
        owner, "/billing/draft?range=dates&start=2020-01-01&end=2020-01-31", 409
    )


@pytest.mark.django_db(transaction=True)
def test_sending_and_paying(stripe: Any, owner: Client, world: World, customer: Customer) -> None:
    target = f"/invoices/{world.draft.pk}"
    confirm = text_of(owner, f"{target}/send")
    assert "$123.45" in confirm
    assert customer.email in confirm
    assert Invoice.objects.get(pk=world.draft.pk).sent_at is None
    assert [owner.post(f"{target}/send").status_code for _ in range(2)] == [302, 302]
    sent = Invoice.objects.get(pk=world.draft.pk)
    assert sent.status == "open"
    page = text_of(owner, target)
    assert sent.hosted_invoice_url in page
    assert str(sent.stripe_invoice_id) in page
    assert "/void" not in page
    assert owner.get(f"{target}/send").status_code == 302
    assert owner.get(f"{target}/void").status_code == 409
    assert owner.post(f"{target}/void").status_code == 409


@pytest.mark.django_db(transaction=True)
def test_without_stripe_nothing_is_sent_and_the_page_says_why(
    owner: Client, world: World, settings: Any
) -> None:
    settings.STRIPE_SECRET_KEY = ""
    answer = owner.post(f"/invoices/{world.draft.pk}/send")
    assert answer.status_code == 503
    assert "STRIPE_SECRET_KEY" in answer.content.decode()


@pytest.mark.django_db(transaction=True)
def test_voiding_frees_the_leads_once(owner: Client, world: World) -> None:
    target, lead = f"/invoices/{world.draft.pk}", world.draft.lines.get().lead
    assert "becomes void for good" in text_of(owner, f"{target}/void")
    assert [owner.post(f"{target}/void").status_code for _ in range(2)] == [302, 302]
    assert lead.public_id in text_of(owner, "/leads?billed=billable")
    assert world.draft.number in text_of(owner, f"/leads/{lead.pk}")
    assert owner.get(f"{target}/send").status_code == 409


@pytest.mark.django_db(transaction=True)
def test_stuck_events_are_tried_again(stripe: Any, owner: Client) -> None:
    StripeEvent.objects.create(
        event_id="evt_9", type="invoice.paid", object_id="in_unknown", payload="{}", received_at=clock.now()
    )
    assert "fetched from Stripe" in text_of(owner, "/alerts/apply-events")
    assert owner.post("/alerts/apply-events").status_code == 302
    page = text_of(owner, "/alerts")
    assert "1 applied, 0 not yet" in page
    assert "in_unknown" in page


def test_the_csv_holds_what_the_filter_shows_and_no_formula(
    owner: Client, make_lead: MakeLead, world: World
) -> None:
    Customer.objects.filter(pk=world.draft.customer_id).update(name='=HYPERLINK("http://x.example")')
    answer = owner.get("/invoices.csv?status=draft")
    assert answer["Content-Disposition"] == 'attachment; filename="invoices.csv"'
    row = next(csv.DictReader(io.StringIO(answer.content.decode())))
    assert (row["number"], row["total"], row["currency"]) == (world.draft.number, "123.45", "USD")
    assert row["customer"].startswith("'=")
    assert len(owner.get("/invoices.csv?status=paid").content.decode().splitlines()) == 1
    assert owner.get("/invoices.csv?status=x").status_code == 400


@given(st.text(max_size=20))
def test_no_cell_begins_like_a_formula(text: str) -> None:
    cell = safe_cell(text)
    assert cell.lstrip(" ")[:1] not in {"=", "+", "-", "@", "\t", "\r", "\n"}
    assert cell in {text, f"'{text}"}


def test_links_lead_to_the_web_only() -> None:
    assert web_address("https://invoice.stripe.com/i/1") != ""
    assert [web_address(url) for url in ("javascript:alert(1)", "data:text/html,x", "", "//x.example")] == [
        ""
    ] * 4


def test_usage_is_exact(owner: Client, clock_file: Stand) -> None:
    record_ai_usage("email", cost=Decimal("0.000000000001"), calls=2)
    record_ai_usage("email", cost=Decimal("61.5"))
    page = text_of(owner, "/usage")
    assert "$61.500000000001" in page
    assert "$50.00" in page
    assert "3 of 1,000" in page
    assert "Usage in 2026-02" in text_of(owner, "/usage?month=2026-02")
    for month in ("2026-13", "x", "0000-01", "2026-2", "9999-12", "1970-01"):
        text_of(owner, f"/usage?month={month}", 400)


def test_exact_text_keeps_cents() -> None:
    assert [exact_text(Decimal(text)) for text in ("0", "3.400000000000", "1234.5678")] == [
        "0.00",
        "3.40",
        "1,234.5678",
    ]


def test_a_void_invoice_still_shows_its_lines(owner: Client, world: World) -> None:
    Invoice.objects.filter(pk=world.draft.pk).update(status="void")
    assert world.draft.lines.get().lead.public_id in text_of(owner, f"/invoices/{world.draft.pk}")
