"""The portal in a real browser: real processes (web, worker, one client instance), at desktop and phone width.

Each page is held to the same: nothing scrolls sideways, nothing is written to the console, nothing is loaded from
another host.
"""

from __future__ import annotations

import re
import secrets
import time
from datetime import timedelta

import pytest
from playwright.sync_api import expect
from tests.browser.portal_rig import CHROMIUM, IN_CI, PHONE, SECONDS, STRIPE_KEY, Visitor
from tests.browser.portal_seed import ADMIN, BILLING, PASSWORD, SUPPORT

from provider_federation.demo.client import pay_hosted_invoice
from provider_federation.kit import clock
from provider_federation.stripe_account import StripeAccount

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and not IN_CI,
        reason="no Chromium here: install chromium, or set CHROMIUM to its path",
    ),
]


def first_link(visitor: Visitor, path: str) -> str:
    visitor.open(path)
    return visitor.page.locator("tbody a.pf-link").first.get_attribute("href") or ""


def test_every_page_fits_and_is_quiet(visitor):
    visitor.sign_in(ADMIN)
    paths = [
        "/",
        "/instances/",
        "/instances/add/",
        "/runs/",
        "/runs/new/",
        "/invoices/",
        "/revenue/",
        "/subscriptions/",
        "/subscriptions/add/",
        "/usage-invoices/",
        "/receivables/",
        "/disputes/",
        "/webhooks/",
        "/operators/",
        "/operators/add/",
        "/operators/tokens/add/",
        "/audit/",
        "/accounts/2fa/",
        "/admin/procrastinate/procrastinatejob/",
        "/accounts/password/change/",
    ]
    instance, month = first_link(visitor, "/instances/"), first_link(visitor, "/revenue/")
    paths += [
        instance,
        f"{instance}edit/",
        f"{instance}key/",
        f"{instance}ai-terms/",
        month,
        f"{month}invoice/",
        first_link(visitor, "/runs/"),
    ]
    paths += [first_link(visitor, "/subscriptions/"), first_link(visitor, "/usage-invoices/")]
    owed = first_link(visitor, "/receivables/")
    paths += [owed, f"{owed}void/", f"{owed}uncollectible/", month.replace("/revenue/", "/statements/")]
    for path in paths:
        visitor.open(path)


def test_signing_in_leads_to_where_one_wanted_to_go(visitor):
    visitor.open("/invoices/?status=open")
    assert "/accounts/login/" in visitor.page.url
    page = visitor.page
    page.get_by_label("Email").fill(ADMIN)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{visitor.base}/invoices/?status=open")
    visitor.holds("after the sign-in")


def test_signing_in_fails_in_words(visitor):
    visitor.open("/accounts/login/")
    visitor.page.get_by_label("Email").fill("nobody@provider.example")
    visitor.page.get_by_label("Password").fill("wrong wrong wrong")
    visitor.page.get_by_role("button", name="Sign in").click()
    expect(visitor.page.get_by_role("alert")).to_contain_text("not correct")
    visitor.holds("the failed sign-in")


def test_the_overview_tells_figures_and_what_is_missing(visitor):
    visitor.sign_in(ADMIN)
    visitor.open("/")
    page = visitor.page
    expect(page.get_by_text("Billed by clients")).to_be_visible()
    expect(page.get_by_text(re.compile(r"\d of 5"))).to_be_visible()
    expect(page.get_by_role("link", name="1 usage invoice is held for review")).to_be_visible()
    drawn = page.locator("canvas.chart").first.evaluate("canvas => canvas.getBoundingClientRect().width")
    assert drawn > 200


def test_adding_an_instance_says_what_is_wrong(visitor):
    visitor.sign_in(ADMIN)
    visitor.open("/instances/add/")
    page = visitor.page
    page.get_by_label("Instance name").fill("elm")
    page.get_by_label("Client org id").fill("org_elm")
    page.get_by_label("Base URL").fill("http://169.254.169.254/")
    page.get_by_text("Without a code: type in a key").click()
    page.get_by_label("Key id").fill("k1")
    page.get_by_label("Secret").fill(secrets.token_urlsafe(32))
    page.get_by_role("button", name="Add and check").click()
    expect(page.locator(".pf-notice--bad, .pf-field__error").first).to_be_visible()
    assert page.get_by_label("Secret").input_value() == ""
    visitor.holds("the refused instance")


def test_acting_on_one_instance_ends_in_a_result(visitor):
    visitor.sign_in(ADMIN)
    visitor.open("/instances/?q=oak")
    page = visitor.page
    page.get_by_role("link", name="Oak & Daughters").first.click()
    expect(page.get_by_text("Healthy").first).to_be_visible()
    page.get_by_label("Converted in").select_option("d90")
    page.get_by_role("button", name="Preview leads").click()
    page.wait_for_url(re.compile(r"/runs/[0-9a-f-]{36}/$"))
    expect(page.get_by_text("1 of 1 finished: 1 done, 0 failed.")).to_be_visible(timeout=SECONDS * 1000)
    expect(page.get_by_text(re.compile(r"\d+ billable leads?, \$"))).to_be_visible()
    visitor.holds("the preview's run")


def test_acting_on_many_is_confirmed_and_shows_each(visitor):
    visitor.sign_in(ADMIN)
    visitor.open("/instances/")
    page = visitor.page
    page.get_by_label("Choose Oak & Daughters").check()
    page.get_by_label("Choose Driftwood Studios").check()
    page.get_by_label("With the chosen").select_option("draft")
    page.get_by_role("button", name="Continue with 2").click()
    expect(page.get_by_text("Those leads are reserved")).to_be_visible()
    visitor.holds("the confirmation")
    page.get_by_role("button", name="Create drafts").click()
    expect(page.get_by_text("2 of 2 finished: 1 done, 1 failed.")).to_be_visible(timeout=SECONDS * 1000)
    expect(page.get_by_role("button", name="Retry the 1 that failed")).to_be_visible()
    visitor.holds("the run over two")


def test_usage_is_asked_after_the_page_is_there(visitor):
    visitor.sign_in(ADMIN)
    visitor.open("/revenue/")
    visitor.page.get_by_role("link", name="Oak & Daughters").first.click()
    expect(visitor.page.get_by_text("Converted leads", exact=True)).to_be_visible(timeout=SECONDS * 1000)
    visitor.page.wait_for_load_state("networkidle")
    visitor.holds("the client's month")


def test_support_sees_no_button_that_is_not_theirs(visitor):
    visitor.sign_in(SUPPORT)
    visitor.open("/instances/")
    assert visitor.page.get_by_role("link", name="Add instance").count() == 0
    assert visitor.page.get_by_role("button", name=re.compile("Continue")).count() == 0
    assert visitor.page.get_by_role("link", name="Operators & tokens").count() == 0


def test_the_keyboard_reaches_the_content_and_the_menu(browser, portal):
    context = browser.new_context(viewport=PHONE)
    visitor = Visitor(context.new_page(), portal)
    visitor.sign_in(ADMIN)
    visitor.open("/instances/")
    page = visitor.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.get_by_role("button", name="Open the menu").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Subscriptions")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Subscriptions")).to_be_hidden()
    context.close()


WAIT = SECONDS * 1000


def months_back(count: int) -> str:
    """The month so many before this one, "YYYY-MM"."""
    month = clock.now().replace(day=1)
    for _ in range(count):
        month = (month - timedelta(days=1)).replace(day=1)
    return f"{month:%Y-%m}"


def usage_invoice(visitor: Visitor, month: str) -> str:
    """Bill Oak's month by its page, and wait until Stripe has the invoice: the address of its receivable."""
    page = visitor.page
    visitor.open("/revenue/")
    address = page.get_by_role("link", name="Oak & Daughters").first.get_attribute("href") or ""
    visitor.open(re.sub(r"\d{4}-\d\d/$", f"{month}/invoice/", address))
    page.get_by_role("button", name="Make the usage invoice").click()
    page.wait_for_url(re.compile(r"/usage-invoices/[0-9a-f-]{36}/$"))
    link = page.get_by_role("link", name="Payment and corrections")
    until = time.monotonic() + SECONDS
    while not link.count() and time.monotonic() < until:
        page.wait_for_timeout(200)
        page.reload()
    return link.get_attribute("href") or ""


def test_a_plan_is_approved_by_its_hash_by_somebody_else_and_watched(desk):
    ada, bo = desk(ADMIN), desk(BILLING)
    page = ada.page
    ada.open("/billing-runs/")
    page.locator("tbody a.pf-link").first.click()
    page.get_by_text("Cancel the run …").click()  # the seeded plan of the same month
    page.get_by_role("button", name="Yes, cancel it").click()
    expect(page.get_by_text("Cancelled", exact=True).first).to_be_visible()
    ada.open("/billing-runs/")
    page.get_by_role("button", name="Plan this month").click()
    expect(page.get_by_text("You planned it: somebody else must approve it.")).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("link", name="Approve …")).to_have_count(0)
    plan_hash = page.get_by_text(re.compile(r"^sha256:[0-9a-f]{64}$")).inner_text()
    ada.holds("the plan")
    bo.open(page.url.removeprefix(ada.base))
    bo.page.get_by_role("link", name="Approve …").click()
    expect(bo.page.get_by_text(plan_hash)).to_be_visible()
    bo.holds("the approval")
    bo.page.get_by_role("button", name="Approve this plan").click()
    bo.page.get_by_role("button", name="Bill what was approved").click()
    expect(bo.page.get_by_text(re.compile(r"5 of 5 finished: .*1 billed"))).to_be_visible(timeout=WAIT)
    expect(bo.page.get_by_text("Done", exact=True)).to_be_visible(timeout=WAIT)
    bo.holds("the run")


def test_an_invoice_is_voided_after_a_question(desk):
    visitor = desk(BILLING)
    page = visitor.page
    receivable = usage_invoice(visitor, months_back(2))
    visitor.open(receivable)
    page.get_by_role("link", name="Void …").click()
    expect(page.get_by_text("This cannot be taken back.")).to_be_visible()
    visitor.holds("the question")
    page.get_by_role("button", name="Void it").click()
    expect(page.get_by_text("The invoice is void; its leads are free.")).to_be_visible()
    expect(page.get_by_text("Nothing is left to correct.")).to_be_visible()
    visitor.holds("the voided invoice")


def test_a_lost_payment_is_found_and_repaired(desk, stripe):
    visitor = desk(BILLING)
    page, month = visitor.page, months_back(3)
    paid = usage_invoice(visitor, month).split("/")[-2]
    account = StripeAccount(STRIPE_KEY, api_base=stripe.url)
    pay_hosted_invoice(account.retrieve_invoice(paid).hosted_invoice_url)
    visitor.open("/reconciliation/")
    page.get_by_label("Month").select_option(month)
    page.get_by_label("Client").select_option(label="Oak & Daughters")
    page.get_by_role("button", name="Reconcile", exact=True).click()
    difference = page.get_by_role("row").filter(has_text="open in the portal, paid in Stripe")
    expect(difference).to_be_visible(timeout=WAIT)
    visitor.holds("the differences")
    difference.get_by_role("button", name="Repair").click()
    expect(page.get_by_text("1 repair is queued")).to_be_visible()
    repaired = page.get_by_text("Repaired", exact=True).first
    until = time.monotonic() + SECONDS
    while not repaired.count() and time.monotonic() < until:
        page.wait_for_timeout(200)
        page.reload()
    page.get_by_role("button", name="Reconcile again").click()
    expect(page.get_by_text("All three books agree, line by line.")).to_be_visible(timeout=WAIT)
    visitor.holds("the agreement")


def test_a_parked_event_is_tried_again(desk):
    visitor = desk(BILLING)
    page = visitor.page
    visitor.open("/webhooks/?state=parked")
    expect(page.get_by_text("the API key is not accepted")).to_be_visible()
    page.get_by_role("row").filter(has_text="evt_3").get_by_role("button", name="Try again").click()
    page.wait_for_load_state()
    said = page.get_by_text("No such invoice: 'in_3'").first  # Stripe answers now, and says what is wrong
    until = time.monotonic() + SECONDS
    while not said.count() and time.monotonic() < until:
        page.wait_for_timeout(200)
        visitor.open("/webhooks/?state=parked")
    expect(said).to_be_visible()
