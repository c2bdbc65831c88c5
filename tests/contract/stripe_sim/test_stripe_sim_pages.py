"""The hosted invoice page and the PDF, as a browser gets them."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
import stripe
from tests.contract.stripe_sim import flows
from tests.contract.stripe_sim.sim_tools import http


@pytest.fixture
def invoice(api: stripe.StripeClient) -> stripe.Invoice:
    customer = flows.customer(api, name="<b>Ada</b> & Co")
    return flows.opened(api, customer.id, 123_456, 44, description="January <leads>")


def _post(url: str, card: str) -> tuple[int, str]:
    status, _, body = http("POST", url, f"card={quote(card)}".encode())
    return status, body.decode()


def test_the_page_shows_the_invoice_and_runs_nothing(invoice: stripe.Invoice) -> None:
    status, headers, body = http("GET", str(invoice.hosted_invoice_url))
    page = body.decode()
    assert status == 200
    for text in (
        "$1,235.00",
        "$1,234.56",
        "Line 1",
        str(invoice.number),
        "&lt;b&gt;Ada&lt;/b&gt; &amp; Co",
        "January &lt;leads&gt;",
        "simulator",
        "Pay now",
        "Due ",
    ):
        assert text in page
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "<script" not in page
    assert "http" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert headers["x-content-type-options"] == "nosniff"


def test_links_are_null_on_a_draft(api: stripe.StripeClient) -> None:
    draft = flows.draft(api, flows.customer(api).id, 100)
    assert (draft.hosted_invoice_url, draft.invoice_pdf, draft.number) == (None, None, None)


def test_a_good_card_pays_once(api: stripe.StripeClient, invoice: stripe.Invoice) -> None:
    url = str(invoice.hosted_invoice_url)
    assert _post(url, "4242 4242 4242 4242")[0] == 303
    assert _post(url, "4242 4242 4242 4242")[0] == 303
    assert "this invoice is paid" in http("GET", url)[2].decode()
    paid = api.v1.invoices.retrieve(invoice.id, {"expand": ["payments"]})
    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 123_500, 0)
    assert [row.status for row in paid.payments.data] == ["paid"]
    assert len(api.v1.charges.list({"customer": str(invoice.customer)}).data) == 1


def test_a_declined_card_leaves_it_open(api: stripe.StripeClient, invoice: stripe.Invoice) -> None:
    status, page = _post(str(invoice.hosted_invoice_url), "4000 0000 0000 0002")
    assert status == 402
    assert "declined" in page
    after = api.v1.invoices.retrieve(invoice.id)
    assert (after.status, after.attempt_count) == ("open", 1)
    assert api.v1.events.list({"type": "invoice.payment_failed"}).data[0].data.object["id"] == invoice.id


def test_other_numbers_are_refused(invoice: stripe.Invoice) -> None:
    status, page = _post(str(invoice.hosted_invoice_url), "5105 0000")
    assert (status, "not a test card" in page) == (400, True)


def test_a_void_invoice_cannot_be_paid(api: stripe.StripeClient, invoice: stripe.Invoice) -> None:
    api.v1.invoices.void_invoice(invoice.id)
    assert _post(str(invoice.hosted_invoice_url), "4242424242424242")[0] == 303
    assert "is void" in http("GET", str(invoice.hosted_invoice_url))[2].decode()
    assert api.v1.invoices.retrieve(invoice.id).status == "void"


def test_an_uncollectible_invoice_can(api: stripe.StripeClient, invoice: stripe.Invoice) -> None:
    api.v1.invoices.mark_uncollectible(invoice.id)
    assert _post(str(invoice.hosted_invoice_url), "4242424242424242")[0] == 303
    assert api.v1.invoices.retrieve(invoice.id).status == "paid"


def test_unknown_links_and_methods(invoice: stripe.Invoice) -> None:
    base = str(invoice.hosted_invoice_url)
    assert http("GET", base + "x")[0] == 404
    assert http("GET", base + "/etc")[0] == 404
    assert http("DELETE", base)[0] == 405
    assert http("POST", base + "/pdf", b"")[0] == 405


def test_the_pdf_is_one(api: stripe.StripeClient) -> None:
    invoice = flows.opened(api, flows.customer(api, name="Zoë (Ltd) \\ 株").id, *[100] * 120)
    status, headers, body = http("GET", str(invoice.invoice_pdf))
    assert (status, headers["content-type"]) == (200, "application/pdf")
    assert body.startswith(b"%PDF-1.4")
    assert body.rstrip().endswith(b"%%EOF")
    start = int(re.search(rb"startxref\n(\d+)", body)[1])
    assert body[start:].startswith(b"xref")
    for number, offset in enumerate(re.findall(rb"(\d{10}) 00000 n", body), 1):
        assert body[int(offset) :].startswith(b"%d 0 obj" % number)
    assert body.count(b"/Type /Page ") == 3
    for length, stream in re.findall(rb"/Length (\d+) >>\nstream\n(.*?)\nendstream", body, re.DOTALL):
        assert len(stream) == int(length)
    assert b"Zo\xeb \\(Ltd\\) \\\\ ?" in body
