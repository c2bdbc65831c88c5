"""Believable data for a demo or a try-out, made through the product's own services; the same seed makes the
same data.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction

from provider_federation.instance.leads.models import Customer, Lead, Source
from provider_federation.instance.leads.services import add_customer, add_lead, convert_lead, set_eligible
from provider_federation.instance.usage.services import record_ai_usage
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem

_FIRST = (
    "Ada",
    "Ben",
    "Carla",
    "Dmitri",
    "Elena",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Keiko",
    "Liam",
    "Mara",
    "Noor",
    "Otis",
    "Priya",
)
_LAST = (
    "Abbott",
    "Brandt",
    "Castillo",
    "Dubois",
    "Eriksen",
    "Fischer",
    "Grant",
    "Haddad",
    "Ito",
    "Jensen",
    "Kowalski",
    "Lopez",
    "Meyer",
    "Novak",
)
_FIRMS = (
    "Harbor",
    "Summit",
    "Willow",
    "Granite",
    "Juniper",
    "Lakeside",
    "Northwind",
    "Redwood",
    "Silver",
    "Sunrise",
    "Timber",
    "Valley",
)
_TRADES = ("Partners", "Services", "Group", "Studio", "& Sons", "Works")
_PRICES = (4_500, 6_000, 7_500, 9_900, 12_000, 15_000)
_AI_KINDS = ("lead-summary", "email-draft", "call-notes", "lead-scoring")
_SHARE_CONVERTED, _SHARE_SYSTEM, _SHARE_ELIGIBLE = 0.45, 0.85, 0.95
_AI_PER_LEAD = 3


@dataclass(frozen=True)
class Seeded:
    """How much was made."""

    customers: int
    leads: int
    converted: int
    ai_events: int


def seed_instance(*, leads: int, months: int, seed: int) -> Seeded:
    """Customers, leads over the last `months` months until now, conversions and AI usage. 409 `not_empty`
    otherwise.
    """
    if Lead.objects.exists() or Customer.objects.exists():
        raise Problem(409, "not_empty", "This instance has data already; seed is for an empty one.")
    chance, now = random.Random(seed), clock.now()  # noqa: S311  data for show, no secret
    start = now - timedelta(days=30 * months)
    with transaction.atomic():
        customers = _customers(chance, count=max(3, min(40, leads // 12)), at=start)
        moments = sorted(_moment(chance, start, now) for _ in range(leads))
        converted = sum(
            _lead(chance, number, at, now, customers) for number, at in enumerate(moments, start=1)
        )
        events = sum(_ai_usage(chance, at, now) for at in moments)
    return Seeded(len(customers), leads, converted, events)


def _customers(chance: random.Random, *, count: int, at: datetime) -> list[Customer]:
    names = [f"{firm} {trade}" for firm in _FIRMS for trade in _TRADES]
    chosen = chance.sample(names, count)
    return [add_customer(name, f"billing@{_host(name)}.example", at=at) for name in chosen]


def _host(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _moment(chance: random.Random, start: datetime, now: datetime) -> datetime:
    """Growing a little over time, in working hours, never in the future."""
    share = float(chance.random() ** 0.8)
    day = start + (now - start) * share
    at = day.replace(
        hour=chance.randint(7, 18), minute=chance.randint(0, 59), second=chance.randint(0, 59), microsecond=0
    )
    return min(max(at, start), now)


def _lead(chance: random.Random, number: int, at: datetime, now: datetime, customers: list[Customer]) -> bool:
    source = (
        Source.SYSTEM if chance.random() < _SHARE_SYSTEM else chance.choice([Source.MANUAL, Source.IMPORT])
    )
    lead = add_lead(
        f"{chance.choice(_FIRST)} {chance.choice(_LAST)}",
        chance.choice(customers),
        price_cents=chance.choice(_PRICES),
        source=source,
        public_id=f"L-{at:%y%m}-{number:05}",
        at=at,
    )
    converted_at = at + timedelta(hours=chance.randint(2, 240), minutes=chance.randint(0, 59))
    if chance.random() >= _SHARE_ELIGIBLE:
        set_eligible(lead.pk, eligible=False)
    if chance.random() >= _SHARE_CONVERTED or converted_at > now:
        return False
    convert_lead(lead.pk, at=converted_at)
    return True


def _ai_usage(chance: random.Random, at: datetime, now: datetime) -> int:
    count = chance.randint(0, _AI_PER_LEAD)
    for _ in range(count):
        moment = min(at + timedelta(minutes=chance.randint(1, 600)), now)
        calls = chance.randint(1, 4)
        cost = Decimal(chance.randint(2_000, 90_000)) * calls / Decimal(1_000_000)
        record_ai_usage(chance.choice(_AI_KINDS), cost=cost, calls=calls, at=moment)
    return count
