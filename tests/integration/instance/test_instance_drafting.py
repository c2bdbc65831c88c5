"""Preview and draft: which leads, how much, and what repeating does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from provider_federation.instance.invoicing import queries, services
from provider_federation.instance.invoicing.models import Change, Invoice, InvoiceLine, LeadReservation
from provider_federation.instance.invoicing.services import WantedLine
from provider_federation.instance.leads.models import Customer, Lead, Source
from provider_federation.instance.leads.services import add_customer, add_lead, convert_lead, set_eligible
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import BadCurrency, Period, parse_window

MakeLead = Callable[..., Lead]
WIDE = Period(datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def test_only_converted_eligible_priced_system_leads_of_a_customer_are_billable(make_lead: MakeLead) -> None:
    good = make_lead()
    make_lead(converted=False)
    make_lead(source=Source.MANUAL)
    make_lead(source=Source.IMPORT)
    make_lead(price_cents=None)
    make_lead(to=None)
    set_eligible(make_lead().pk, eligible=False)
    assert services.preview_billable(WIDE) == [good]


def test_a_window_is_half_open(clock_file: Any, make_lead: MakeLead) -> None:
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    before, at = make_lead(at=midnight - timedelta(microseconds=1)), make_lead(at=midnight)
    february = parse_window(clock.now(), start="2026-02-01", end="2026-02-28")
    march = parse_window(clock.now(), start="2026-03-01", end="2026-03-31")
    assert services.preview_billable(february) == [before]
    assert services.preview_billable(march) == [at]


def test_one_invoice_per_customer_and_currency(make_lead: MakeLead) -> None:
    other = add_customer("Willow Group", "pay@willow.example")
    make_lead(price_cents=10_000), make_lead(price_cents=2_500)
    make_lead(price_cents=700, currency="eur")
    make_lead(price_cents=4_200, to=other)
    drafted = services.draft_invoices(WIDE)
    assert not drafted.reused
    assert sorted((one.customer.name, one.currency, one.total_cents) for one in drafted.invoices) == [
        ("Harbor Works", "eur", 700),
        ("Harbor Works", "usd", 12_500),
        ("Willow Group", "usd", 4_200),
    ]
    assert sorted(one.number for one in drafted.invoices) == ["INV-000001", "INV-000002", "INV-000003"]
    assert all(one.tax_cents == 0 and one.subtotal_cents == one.total_cents for one in drafted.invoices)


def test_what_stripe_could_not_take_in_one_invoice_becomes_several(make_lead: MakeLead) -> None:
    for price in (60_000_000, 50_000_000, 49_000_000, 1):
        make_lead(price_cents=price)
    drafted = services.draft_invoices(WIDE).invoices
    assert sorted(one.total_cents for one in drafted) in ([60_000_000, 99_000_001], [60_000_001, 99_000_000])
    assert queries.count_lines(drafted) == 4


def test_a_currency_or_price_that_cannot_be_billed_is_refused(make_lead: MakeLead) -> None:
    with pytest.raises(BadCurrency):
        make_lead(currency="xxx")
    for price in (0, -1, 100_000_000):
        with pytest.raises(Problem) as refused:
            make_lead(price_cents=price)
        assert refused.value.code == "bad_amount"


def test_drafting_again_shows_the_same_drafts(make_lead: MakeLead) -> None:
    make_lead()
    first, second = services.draft_invoices(WIDE), services.draft_invoices(WIDE)
    assert second.reused
    assert [one.pk for one in second.invoices] == [one.pk for one in first.invoices]
    assert Invoice.objects.count() == 1


def test_nothing_billable_drafts_nothing(db: None) -> None:
    assert list(services.draft_invoices(WIDE).invoices) == []
    assert Invoice.objects.count() == 0


def test_voiding_frees_the_leads_and_keeps_the_number(transactional_db: None, make_lead: MakeLead) -> None:
    lead = make_lead()
    [first] = services.draft_invoices(WIDE).invoices
    assert services.preview_billable(WIDE) == []
    assert services.void_draft(first.pk).status == "void"
    assert services.void_draft(first.pk).status == "void"  # again: no change
    assert services.preview_billable(WIDE) == [lead]
    [second] = services.draft_invoices(WIDE).invoices
    assert (first.number, second.number) == ("INV-000001", "INV-000002")
    assert [change.kind for change in Change.objects.order_by("seq")] == [
        "invoice.created",
        "invoice.updated",
        "invoice.created",
    ]


def test_only_a_draft_can_be_voided(transactional_db: None, make_lead: MakeLead) -> None:
    make_lead()
    [invoice] = services.draft_invoices(WIDE).invoices
    Invoice.objects.filter(pk=invoice.pk).update(status="open")
    with pytest.raises(Problem, match="Only a draft"):
        services.void_draft(invoice.pk)
    with pytest.raises(Problem) as missing:
        services.void_draft(10**9)
    assert missing.value.status == 404


def test_the_database_itself_refuses_a_lead_on_two_live_invoices(make_lead: MakeLead) -> None:
    lead = make_lead()
    [invoice] = services.draft_invoices(WIDE).invoices
    line = InvoiceLine.objects.create(
        invoice=invoice,
        position=99,
        lead=make_lead(),
        description="",
        converted_at=clock.now(),
        unit_price_cents=1,
        amount_cents=1,
    )
    with pytest.raises(IntegrityError), transaction.atomic():
        LeadReservation.objects.create(lead=lead, line=line)


@pytest.mark.parametrize(
    "change", [{"total_cents": 1}, {"tax_cents": -1}, {"status": "lost"}, {"amount_paid_cents": -5}]
)
def test_the_database_itself_refuses_wrong_money(make_lead: MakeLead, change: dict[str, Any]) -> None:
    make_lead()
    [invoice] = services.draft_invoices(WIDE).invoices
    with pytest.raises(IntegrityError), transaction.atomic():
        Invoice.objects.filter(pk=invoice.pk).update(**change)


def test_chosen_lines_are_billed_and_repeating_reuses_them(make_lead: MakeLead) -> None:
    one, two, _three = make_lead(), make_lead(), make_lead()
    wanted = [WantedLine(one.pk, one.price_cents, one.customer_id), WantedLine(two.pk)]
    first = services.draft_lines(wanted)
    assert queries.count_lines(first.invoices) == 2
    assert not first.reused
    again = services.draft_lines(wanted)
    assert again.reused
    assert [invoice.pk for invoice in again.invoices] == [invoice.pk for invoice in first.invoices]


def test_chosen_lines_all_or_none(make_lead: MakeLead) -> None:
    good, manual = make_lead(), make_lead(source=Source.MANUAL)
    for wanted, code in [
        ([WantedLine(good.pk), WantedLine(manual.pk)], "lead_not_billable"),
        ([WantedLine(good.pk), WantedLine(10**9)], "not_found"),
        ([WantedLine(good.pk), WantedLine(good.pk)], "repeated_line"),
        ([WantedLine(good.pk, amount_cents=1)], "line_changed"),
        ([WantedLine(good.pk, customer_id=10**9)], "line_changed"),
    ]:
        with pytest.raises(Problem) as refused:
            services.draft_lines(wanted)
        assert refused.value.code == code
    assert Invoice.objects.count() == 0
    [invoice] = services.draft_lines([WantedLine(good.pk)]).invoices
    Invoice.objects.filter(pk=invoice.pk).update(status="open")
    with pytest.raises(Problem, match=invoice.number):
        services.draft_lines([WantedLine(good.pk)])


def test_a_conversion_happens_once(make_lead: MakeLead) -> None:
    lead = make_lead(days_ago=3)
    assert convert_lead(lead.pk).converted_at == lead.converted_at
    fresh = add_lead("Early Bird", lead.customer, price_cents=1)
    with pytest.raises(Problem):
        convert_lead(fresh.pk, at=fresh.created_at - timedelta(days=1))


class Sums(TestCase):
    """Whatever the leads: every billable one is on one invoice, and nothing is lost or made up in the sums."""

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        leads=st.lists(
            st.tuples(
                st.integers(0, 2),
                st.sampled_from(["usd", "eur", "jpy"]),
                st.integers(1, 99_999_999),
                st.integers(0, 60),
                st.sampled_from(Source.values),
                st.booleans(),
                st.booleans(),
            ),
            max_size=12,
        ),
        split=st.integers(1, 59),
    )
    def test_two_windows_bill_what_the_whole_would(self, leads: list[tuple[Any, ...]], split: int) -> None:
        customers = [add_customer(f"C{number}", f"c{number}@x.example") for number in range(3)]
        start = datetime(2026, 1, 1, tzinfo=UTC)
        for index, (whose, currency, price, day, source, eligible, converted) in enumerate(leads):
            self._lead(
                index,
                customers[whose],
                currency,
                price,
                start + timedelta(days=day),
                source,
                eligible,
                converted,
            )
        middle, end = start + timedelta(days=split), start + timedelta(days=61)
        expected = {lead.pk: lead.price_cents for lead in services.preview_billable(Period(start, end))}
        assert set(expected) == self._billable_by_hand()
        drafted = [
            *services.draft_invoices(Period(start, middle)).invoices,
            *services.draft_invoices(Period(middle, end)).invoices,
        ]
        lines = list(InvoiceLine.objects.all())
        assert {line.lead_id: line.amount_cents for line in lines} == expected
        assert len(lines) == len(expected)
        assert sum(invoice.total_cents for invoice in drafted) == sum(expected.values())
        assert services.preview_billable(Period(start, end)) == []
        for invoice in drafted:
            own = list(invoice.lines.select_related("lead"))
            assert invoice.total_cents == sum(line.amount_cents for line in own)
            whose = {(line.lead.customer_id, line.lead.currency) for line in own}
            assert whose == {(invoice.customer_id, invoice.currency)}
        numbers = sorted(invoice.number for invoice in drafted)
        assert numbers == [f"INV-{number:06}" for number in range(1, len(drafted) + 1)]

    def _lead(
        self,
        index: int,
        customer: Customer,
        currency: str,
        price: int,
        at: datetime,
        source: str,
        eligible: bool,
        converted: bool,
    ) -> None:
        lead = add_lead(
            "X", customer, price_cents=price, currency=currency, source=source, at=at, public_id=f"L-{index}"
        )
        set_eligible(lead.pk, eligible=eligible)
        if converted:
            convert_lead(lead.pk, at=at)

    def _billable_by_hand(self) -> set[int]:
        return {
            lead.pk
            for lead in Lead.objects.all()
            if lead.converted_at and lead.source == "system" and lead.eligible
        }
