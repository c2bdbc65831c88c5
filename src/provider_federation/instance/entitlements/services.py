"""Taking what the portal says, in any order, and keeping to it.

Leads are never refused: whatever is over the plan is kept and shown. A new person and a new AI call are
refused once the portal has told a limit and it is used up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, transaction

from provider_federation.instance.entitlements.models import ONLY_ROW, Entitlement
from provider_federation.instance.people.models import Person
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import Limits


@dataclass(frozen=True)
class Told:
    """One message of the portal."""

    version: int
    plan: str
    state: str
    limits: Limits
    support: str
    valid_from: datetime


def store_entitlement(told: Told) -> bool:
    """Keep it if it is newer than what is known; whether it was. One that is older, or came before, changes
    nothing. Problem 409 `entitlement_conflict` when this version said something else before.
    """
    values = {
        "version": told.version,
        "plan": told.plan,
        "state": told.state,
        "leads": told.limits.leads,
        "users": told.limits.users,
        "ai_credits": told.limits.ai_credits,
        "support": told.support,
        "valid_from": told.valid_from,
    }
    # One statement decides, so that two messages at once leave the newer one, whichever comes last.
    newer = Entitlement.objects.filter(pk=ONLY_ROW, version__lt=told.version)
    if newer.update(received_at=clock.now(), **values):
        return True
    try:
        with transaction.atomic():
            row, made = Entitlement.objects.get_or_create(
                pk=ONLY_ROW, defaults={"received_at": clock.now(), **values}
            )
    except IntegrityError:
        raise Problem(409, "conflict", "Another message came at the same moment; send this again.") from None
    if not made and row.version == told.version and any(getattr(row, k) != v for k, v in values.items()):
        sentence = f"Version {told.version} said something else before; a version says one thing for ever."
        raise Problem(409, "entitlement_conflict", sentence)
    return made


def hold_allowed() -> Entitlement | None:
    """What the provider told, held until the caller's transaction ends: who takes of it takes turns."""
    return Entitlement.objects.select_for_update().filter(pk=ONLY_ROW).first()


def check_users(person: Person) -> None:
    """Problem 409 `plan_limit_reached` when one more person who can sign in is over the plan. Who is active
    already stays so, also when the plan becomes smaller.
    """
    with transaction.atomic():  # held to the end of the caller's: two new people take turns
        row = hold_allowed()
    if row is None or row.users is None:
        return
    others = Person.objects.filter(is_active=True)
    if others.filter(pk=person.pk).exists() or others.count() < row.users:
        return
    raise over_plan(f"The plan {row.plan} has {row.users} people who can sign in", "users")


def over_plan(what: str, limit: str) -> Problem:
    """The refusal of something that the plan has no room for."""
    return Problem(
        409, "plan_limit_reached", f"{what}; a larger plan has room for more. Ask your provider.", limit=limit
    )
