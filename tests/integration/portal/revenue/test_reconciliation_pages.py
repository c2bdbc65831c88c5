"""Reconciling and mending by its pages, button by button, against the simulator."""

from __future__ import annotations

import pytest
from django.test import Client
from tests.integration.portal.clicking import Person
from tests.integration.portal.revenue.rig import FEBRUARY, run_jobs

from provider_federation.portal.audit.models import AuditEvent
from provider_federation.portal.audit.services import Kind
from provider_federation.portal.reconciliation.models import ReconciliationReport
from provider_federation.portal.revenue.models import UsageInvoice
from provider_federation.portal.revenue.services import refresh_any_invoice
from provider_federation.portal.subscriptions.models import BillingCustomer

PAGE = "/reconciliation/"
REPAIR = "Repair"
ALL_OF_CLASS = "Repair all of this class"


@pytest.fixture
def person(ada_billed):
    return Person("billing")


def reconcile(person):
    """Press the button, let a worker do its part, look at the report; its path."""
    person.sees(PAGE)
    person.clicks("Reconcile", period=FEBRUARY)
    path = person.path
    assert run_jobs() == []
    person.sees(path)
    return path


def row_of_february():
    return UsageInvoice.objects.get(period=FEBRUARY)


def pay(books):
    books.post(f"invoices/{row_of_february().stripe_invoice_id}/pay", payment_method="pm_card_visa")


def second_draft(books):
    customer = BillingCustomer.objects.get().stripe_customer_id
    marks = {"metadata[pf_key]": row_of_february().order_key, "metadata[period]": FEBRUARY}
    return books.post("invoices", customer=customer, **marks)["id"]


def told(kind):
    return list(AuditEvent.objects.filter(kind=kind).values_list("actor", flat=True))


def row_buttons(person):
    return [one for one in person.forms(REPAIR) if "row" in one.fields]


def test_started_on_the_page_all_books_agree(person):
    assert "Nothing compared yet" in person.sees(PAGE)
    page = person.clicks("Reconcile", period=FEBRUARY)
    report = ReconciliationReport.objects.get()
    assert (person.path, report.requested_by) == (f"{PAGE}{report.pk}/", "operator:billing@example.com")
    assert "hx-get" in page
    assert "What differs" not in page
    assert run_jobs() == []
    assert person.client.get(f"{person.path}progress/").headers["HX-Refresh"] == "true"
    page = person.sees(person.path)
    assert "0 differences" in page
    assert page.count("$203.00") == 6  # gross, billed and outstanding, in both books
    assert row_buttons(person) == []
    assert "0 differences" in person.sees(PAGE)


def test_what_differs_is_shown_repaired_and_gone(person, books):
    pay(books)
    first = reconcile(person)
    assert "What differs" in person.text
    assert "0 differences" not in person.text
    assert len(row_buttons(person)) == 2
    assert row_of_february().status == "open"
    person.sees(f"{first}?class=status")
    assert "1 repair is queued" in person.clicks(ALL_OF_CLASS)
    assert row_of_february().status == "open"  # a worker does it
    assert run_jobs() == []
    assert row_of_february().status == "paid"
    page = person.sees(first)
    assert page.count("Repaired") == 1
    assert "is paid." in page
    assert len(row_buttons(person)) == 1
    person.clicks(REPAIR)
    assert run_jobs() == []
    person.sees(first)
    assert row_buttons(person) == []
    person.clicks("Reconcile again")
    assert person.path != first
    assert run_jobs() == []
    assert "0 differences" in person.sees(person.path)
    assert told(Kind.REPAIR_REQUESTED) == told(Kind.REPAIRED) == ["operator:billing@example.com"] * 2


def test_a_second_click_mends_nothing_twice(person, books):
    pay(books)
    path = reconcile(person)
    button = row_buttons(person)[0]
    for _ in range(2):  # before a worker came to it
        assert "1 repair is queued" in person.sends(button)
    assert run_jobs() == []
    assert len(told(Kind.REPAIRED)) == 1
    assert "nothing left to repair" in person.sends(button)  # from a page that was left open
    assert run_jobs() == []
    assert (len(told(Kind.REPAIRED)), len(told(Kind.REPAIR_REQUESTED))) == (1, 2)
    assert person.sees(path).count("Repaired") == 1


def test_a_difference_that_is_gone_by_then_does_no_harm(person, books):
    """The event arrives after the report; the repair looks at Stripe as it is now."""
    pay(books)
    path = reconcile(person)
    refresh_any_invoice(row_of_february().stripe_invoice_id)
    before = UsageInvoice.objects.values().get()
    person.clicks(REPAIR)
    assert run_jobs() == []
    assert "is paid." in person.sees(path)
    after = UsageInvoice.objects.values().get()
    assert {name for name in before if before[name] != after[name]} <= {"seen_at", "updated_at", "version"}


def test_a_second_draft_that_was_sent_meanwhile_is_left_alone(person, books):
    """What the report saw is not what is there: nothing is removed, and the page says why."""
    customer = BillingCustomer.objects.get().stripe_customer_id
    draft = second_draft(books)
    path = reconcile(person)
    assert len(row_buttons(person)) == 1
    books.post("invoiceitems", customer=customer, invoice=draft, amount=100, currency="usd")
    books.post(f"invoices/{draft}/finalize")
    person.clicks(REPAIR)
    assert run_jobs() == []
    assert "failed: It is no second draft of an order any more; nothing was removed." in person.sees(path)
    assert len(row_buttons(person)) == 1
    assert books.get(f"invoices/{draft}")["status"] == "open"
    assert (told(Kind.REPAIRED), len(told(Kind.REPAIR_FAILED))) == ([], 1)


def test_a_second_draft_is_removed_by_its_button(person, books):
    draft = second_draft(books)
    path = reconcile(person)
    person.clicks(REPAIR)
    assert run_jobs() == []
    assert "The second draft was removed." in person.sees(path)
    assert draft not in {one["id"] for one in books.invoices()}
    person.clicks("Reconcile again")
    assert run_jobs() == []
    assert "0 differences" in person.sees(person.path)


def test_while_one_is_under_way_no_second_begins(person):
    person.sees(PAGE)
    form = person.forms("Reconcile")[0]
    person.sends(form, period=FEBRUARY)
    path = person.path
    assert "This one is under way already." in person.sends(form, period=FEBRUARY)
    assert (person.path, ReconciliationReport.objects.count()) == (path, 1)
    answer = person.client.post(f"{path}repair/", {"class": "status", "csrfmiddlewaretoken": form.fields["csrfmiddlewaretoken"]}, follow=True)  # fmt: skip
    assert "This report is not done" in answer.content.decode()
    assert run_jobs() == []
    assert "0 differences" in person.sees(path)


def test_what_makes_no_sense_is_refused(person, books):
    pay(books)
    path = reconcile(person)
    other = row_buttons(person)[0]
    again = reconcile(person)
    assert again != path
    for fields, words in (
        ({"row": ""}, "Choose what to repair."),
        ({"row": "x"}, "Choose what to repair."),
        ({"row": "999999999"}, "nothing left to repair"),
        ({"row": other.fields["row"]}, "nothing left to repair"),  # a row of the other report
    ):
        form = row_buttons(person)[0]
        assert words in person.sends(form, **fields), fields
    assert told(Kind.REPAIR_REQUESTED) == []
    person.sees(PAGE)
    form = person.forms("Reconcile")[0]
    token = form.fields["csrfmiddlewaretoken"]
    assert "There is no such month; write " in person.sends(form, period="2026-13")
    lost = person.client.post(f"{PAGE}start/", {"period": FEBRUARY, "client": "org_none", "csrfmiddlewaretoken": token})  # fmt: skip
    assert lost.status_code == 404
    assert ReconciliationReport.objects.count() == 2


def test_who_may_only_read_sees_no_button_and_posts_nothing(person, books):
    pay(books)
    path = reconcile(person)
    row = row_buttons(person)[0].fields["row"]
    reader = Person("support")
    assert "What differs" in reader.sees(path)
    assert reader.forms(REPAIR) == reader.forms("Reconcile") == []
    assert "What differs" in reader.sees(f"{path}?class=status")
    assert reader.forms(REPAIR) == []
    stranger = Client()
    for target, fields in ((f"{path}repair/", {"row": row}), (f"{PAGE}start/", {"period": FEBRUARY})):
        reader.client.handler.enforce_csrf_checks = False
        assert reader.client.post(target, fields).status_code == 403
        assert stranger.post(target, fields).status_code == 302
        person.client.cookies.pop("csrftoken", None)
        assert person.client.post(target, fields).status_code == 403  # without its token
    assert run_jobs() == []
    assert ReconciliationReport.objects.count() == 1
    assert (row_of_february().status, told(Kind.REPAIR_REQUESTED)) == ("open", [])
