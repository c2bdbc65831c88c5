"""The operators' pages of a subscription: what a change costs before it is made, and what became of it."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from tests.integration.portal.subscriptions.moves import moment
from typer.testing import CliRunner

from provider_federation.cli.subscriptions import app
from provider_federation.portal.operators.services import add_operator
from provider_federation.portal.subscriptions.models import Subscription


@pytest.fixture
def page(transactional_db):
    """A signed-in billing operator's browser; `page(address)` follows redirects and answers the text."""
    client = Client()
    operator = add_operator(
        email="bill@example.com", password="correct horse battery", role="billing", actor="system"
    )
    client.force_login(operator, backend="allauth.account.auth_backends.AuthenticationBackend")
    client.text = lambda path, **form: (
        client.post(path, form, follow=True) if form else client.get(path, follow=True)
    ).content.decode()
    return client


def test_a_change_is_previewed_and_carried_out_as_shown(desk, grow, page, at):
    grow("ada")
    made = desk.subscribe()
    at(moment("2026-03-20T12:00:00"))
    address = f"/subscriptions/{made['id']}/"
    assert "Change plan" in page.text(address)
    shown = page.text(f"{address}change/?plan=ELITE")
    assert "135.48" in shown
    assert "297.00" in shown
    token = re.search(r'name="preview" value="([^"]+)"', shown)[1]
    after = page.text(f"{address}change/", plan="ELITE", proration="always_invoice", preview=token)
    assert "The plan is changed." in after
    assert Subscription.objects.get().plan == "ELITE"
    assert "What it costs" in page.text(f"{address}change/", plan="PRO", proration="at_period_end")
    shown = page.text(f"{address}change/?plan=PRO")
    token = re.search(r'name="preview" value="([^"]+)"', shown)[1]
    scheduled = page.text(f"{address}change/", plan="PRO", proration="at_period_end", preview=token)
    assert "Pro from" in scheduled
    assert "Take this change back" in scheduled
    assert "taken back" in page.text(f"{address}withdraw/", go="1")
    assert "It ends with the period" in page.text(f"{address}cancel/", when="end")
    assert "Let it go on" in page.text(address)
    assert "It goes on." in page.text(f"{address}resume/", go="1")
    assert "being told" in page.text(f"{address}publish/", go="1")
    assert "It ended." in page.text(f"{address}cancel/", when="now", credit="1")


def test_the_first_paid_plan_is_shown_with_its_tax(desk, grow, page, settings):
    """19% of $97.00 are $18.43."""
    grow("ada")
    rate = desk.books.post("tax_rates", display_name="VAT", percentage=19, inclusive="false")
    settings.PROVIDER_STRIPE_TAX_RATES = (rate["id"],)
    address = f"/subscriptions/{desk.subscribe(plan='BASE')['id']}/"
    shown = page.text(f"{address}change/?plan=PRO&proration=at_period_end")
    for words in (
        "$115.43",
        "with $18.43 tax",
        "What is charged now",
        "10 Apr 2026",
        "Now, a month at a time",
    ):
        assert words in shown
    assert "At the end of the paid period</span>" not in shown, "there is no paid period"
    assert 'name="proration" data-submits' not in shown
    token = re.search(r'name="preview" value="([^"]+)"', shown)[1]
    after = page.text(f"{address}change/", plan="PRO", proration="at_period_end", preview=token)
    assert "Stripe waits for the payment" in after
    assert desk.totals() == [11_543]


def test_an_old_preview_is_shown_anew(desk, grow, page, at):
    grow("ada")
    made = desk.subscribe()
    address = f"/subscriptions/{made['id']}/change/"
    token = re.search(r'name="preview" value="([^"]+)"', page.text(f"{address}?plan=ELITE"))[1]
    at(moment("2026-03-10T13:00:00"))
    again = page.text(address, plan="ELITE", proration="always_invoice", preview=token)
    assert "preview it again" in again
    assert "What it costs" in again
    assert Subscription.objects.get().plan == "PRO"
    assert page.get("/subscriptions/subscriptions.csv?plan=PRO").content.decode().count("\r\n") == 2
    assert "0 of 1 instances know" in page.text("/subscriptions/")


def test_the_command_line_shows_changes_and_cancels(desk, grow, at, monkeypatch):
    monkeypatch.setattr(
        "provider_federation.cli.subscriptions.load_portal", lambda *_: None
    )  # Django is loaded already
    grow("ada")
    desk.subscribe()
    at(moment("2026-03-20T12:00:00"))

    def said(*arguments):
        return CliRunner().invoke(app, [*arguments], catch_exceptions=False).output

    assert "$135.48" in said("preview", "org_ada", "ELITE")
    assert "plan: done." in said("change", "org_ada", "elite", "--yes")
    assert "org_ada\tELITE\tactive\t2026-04-10" in said("list")
    assert "plan: scheduled." in said("change", "org_ada", "PRO", "--yes")
    assert "withdraw: done." in said("withdraw", "org_ada")
    assert "2026-04-10 12:00 UTC" in said("cancel", "org_ada")
    assert "resume: done." in said("resume", "org_ada")
    assert "It ended." in said("cancel", "org_ada", "--immediate", "--prorate")
