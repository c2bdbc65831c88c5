"""The operators' pages of a subscription: what a change costs before it is made, and what became of it."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from tests.integration.portal.subscriptions.moves import moment

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
