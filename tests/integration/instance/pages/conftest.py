"""People of each role, signed in, and an instance with something to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from django.test import Client

from provider_federation.instance.invoicing.models import EventState, Invoice, StripeEvent
from provider_federation.instance.invoicing.services import draft_lines
from provider_federation.instance.invoicing.services.drafting import WantedLine
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.people.models import Person
from provider_federation.instance.people.services import add_person
from provider_federation.kit import clock

PASSWORD = "a long enough passphrase"
ROLES = ("owner", "billing", "viewer")
MakeLead = Callable[..., Lead]


def anonymous(*, csrf: bool = False) -> Client:
    return Client(enforce_csrf_checks=csrf, headers={"host": "127.0.0.1"})


@pytest.fixture
def people(db: None) -> dict[str, Person]:
    return {role: add_person(f"{role}@x.example", PASSWORD, role=role, name=role.title()) for role in ROLES}


@pytest.fixture
def clients(people: dict[str, Person]) -> dict[str, Client]:
    made = {"nobody": anonymous()}
    for role, person in people.items():
        made[role] = anonymous()
        made[role].force_login(person)
    return made


@pytest.fixture
def owner(clients: dict[str, Client]) -> Client:
    return clients["owner"]


@dataclass(frozen=True)
class World:
    """A draft, a lead that can be billed, one that has not converted, and a Stripe event that was given up."""

    draft: Invoice
    billable: Lead
    fresh: Lead
    other: Person
    parked: StripeEvent


@pytest.fixture
def world(make_lead: MakeLead, people: dict[str, Person]) -> World:
    parked = StripeEvent.objects.create(
        event_id="evt_parked", type="invoice.paid", object_id="in_1", payload="{}", received_at=clock.now(),
        state=EventState.PARKED, attempts=10, last_error="RuntimeError",
    )  # fmt: skip
    drafted = draft_lines([WantedLine(make_lead(days_ago=3, price_cents=12_345).pk)])
    return World(drafted.invoices[0], make_lead(), make_lead(converted=False), people["viewer"], parked)
