"""What the owner decides about the provider on the federation page, and stuck Stripe events, by their forms."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from tests.integration.instance.conftest import STRIPE_KEY
from tests.integration.instance.pages.conftest import World

from provider_federation.instance.federation import services
from provider_federation.instance.federation.keyring import PAIR
from provider_federation.instance.federation.models import FederationKey, Invitation
from provider_federation.instance.federation.replay import replay_store
from provider_federation.instance.invoicing.models import StripeEvent
from provider_federation.instance.invoicing.services import provider_policy
from provider_federation.kit import clock
from provider_federation.protocol import Key
from provider_federation.protocol.pairing import code_key, invitation_name, new_seed, public_text

PAGE = "/federation"


def text_of(client: Client, target: str = PAGE) -> str:
    return html.unescape(client.get(target).content.decode())


def done(client: Client, target: str, fields: dict[str, Any] | None = None, to: str = PAGE) -> str:
    """The page that a good form leads to."""
    answer = client.post(target, fields or {})
    assert (answer.status_code, answer.headers.get("Location")) == (302, to), answer.content.decode()
    return text_of(client, to)


def test_opening_and_closing_enrolment(owner: Client) -> None:
    page = owner.post("/federation/invite", {"minutes": "15", "scope": "read"}).content.decode()
    invitation = Invitation.objects.get()
    [code] = set(re.findall(r"pf-[A-Za-z0-9_-]{20,}", page))
    assert invitation.name == invitation_name(code_key(code).id)
    assert invitation.scope == "read"
    assert timedelta(minutes=14) < invitation.expires_at - clock.now() <= timedelta(minutes=15)
    assert code not in text_of(owner)  # shown once
    assert "for one portal" in text_of(owner)
    assert "Closed: no portal can enrol" in done(owner, "/federation/close-enrolment")
    assert services.open_invitation() is None
    for wrong in ({"minutes": "9999", "scope": "read"}, {"minutes": "15", "scope": "admin"}, {}):
        assert owner.post("/federation/invite", wrong).status_code == 422
    assert Invitation.objects.count() == 1


def test_revoking_a_key_and_resetting_the_ratchet(owner: Client) -> None:
    public = public_text(Key("portal-1", "ed25519", secret=new_seed()))
    FederationKey.objects.create(
        key_id="portal-1", source="enrolled", created_at=clock.now(), public_key=public, scope="read"
    )
    assert 'value="portal-1"' in text_of(owner, "/federation/revoke-key?key=portal-1")
    assert "portal-1 is revoked" in done(owner, "/federation/revoke-key", {"key": "portal-1"})
    assert FederationKey.objects.get().revoked_at is not None
    assert "Revoke</a>" not in text_of(owner)
    assert owner.post("/federation/revoke-key", {"key": "nobody"}).status_code == 404
    replay_store().set(PAIR, clock.timestamp())
    assert "has spoken v2 since" in text_of(owner)
    assert "has not spoken v2 yet" in done(owner, "/federation/reset-ratchet")
    assert not replay_store().is_set(PAIR)


def test_freezing_allowed_actions_and_the_daily_amount(owner: Client) -> None:
    fields = {"frozen": "on", "may_draft": "on", "daily_limit": "150.5", "currency": "usd"}
    assert "every call is refused" in done(owner, "/federation/policy", fields)
    policy = provider_policy()
    assert (policy.frozen, policy.may_draft, policy.may_send) == (True, True, False)
    assert (policy.daily_limit_cents, policy.currency) == (15_050, "usd")
    assert 'value="150.5' in text_of(owner, "/federation/policy")
    page = done(owner, "/federation/policy", {"may_draft": "on", "may_send": "on", "currency": "usd"})
    assert "no limit" in page
    assert "frozen the provider" not in page
    for wrong in ({"daily_limit": "-1"}, {"daily_limit": "x"}, {"currency": "xxx"}):
        assert (
            owner.post("/federation/policy", {"currency": "usd", "frozen": "on", **wrong}).status_code == 422
        )
    assert provider_policy().frozen is False


@pytest.mark.django_db(transaction=True)
def test_a_parked_event_goes_round_again(stripe: Any, owner: Client, world: World) -> None:
    stripe.control("/reset", key=STRIPE_KEY)  # whatever other tests left in the account
    target, to = f"/stripe-events/{world.parked.pk}/retry", "/stripe-events"
    assert target in text_of(owner, f"{to}?state=parked")
    assert "No event fits" in text_of(owner, f"{to}?state=applied")
    assert "evt_parked" in text_of(owner, "/alerts")
    assert "1 applied, 0 not yet" in done(owner, target, to=to)
    kept = StripeEvent.objects.get()
    assert (kept.state, kept.note) == ("ignored", "Stripe does not have the invoice.")
    assert target not in done(owner, target, to=to)
    assert "0 invoices looked at, 0 changed here" in done(owner, "/stripe-events/sweep", to=to)
