"""What the owner lets the provider do: by action, and up to an amount a day (contract, section 3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date
from typing import Any

from django.db import transaction
from django.db.models import Sum

from provider_federation.instance.invoicing.models import (
    Invoice,
    ProviderAction,
    ProviderPolicy,
    ProviderWrite,
)
from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money import format_amount

EDITABLE = frozenset({"frozen", "may_draft", "may_send", "daily_limit_cents", "currency"})


@dataclass(frozen=True)
class UsedToday:
    """Minor units of the policy's currency that the provider drafted and sent today (UTC)."""

    drafted_cents: int
    sent_cents: int


def provider_policy() -> ProviderPolicy:
    """The owner's word; everything is allowed until there is one."""
    return ProviderPolicy.objects.filter(pk=1).first() or ProviderPolicy(pk=1)


def set_provider_policy(**changes: Any) -> ProviderPolicy:
    """Change fields of EDITABLE; in force with the next request of any process."""
    unknown = changes.keys() - EDITABLE
    if unknown:
        raise Problem(400, "unknown_field", f"{', '.join(sorted(unknown))} cannot be set.")
    with transaction.atomic():
        policy = lock_provider_policy()
        for name, value in changes.items():
            setattr(policy, name, value)
        policy.save()
    return policy


def used_today() -> UsedToday:
    """For the policy's own currency."""
    currency = provider_policy().currency
    return UsedToday(*(_used(action, currency) for action in (ProviderAction.DRAFT, ProviderAction.SEND)))


def allow_provider(action: ProviderAction, invoices: Iterable[Invoice] = ()) -> None:
    """Count these invoices as today's, once each. Problem 403 `policy_refused`: then nothing is counted.

    Call it in the transaction that the invoices are made in; a send calls it before anything leaves.
    """
    with transaction.atomic():
        policy = lock_provider_policy()
        if not (policy.may_draft if action == ProviderAction.DRAFT else policy.may_send):
            raise _refused(f"The owner does not let the provider {action.value} invoices.")
        today = _today()
        for invoice in invoices:
            ProviderWrite.objects.get_or_create(action=action, invoice=invoice, defaults={"day": today})
            _check_limit(policy, action, invoice)


def _check_limit(policy: ProviderPolicy, action: ProviderAction, invoice: Invoice) -> None:
    limit = policy.daily_limit_cents
    if limit is None:
        return
    if invoice.currency != policy.currency:
        raise _refused(f"The owner's daily limit is in {policy.currency.upper()}; nothing else passes it.")
    if _used(action, policy.currency) > limit:
        amount = format_amount(limit, policy.currency)
        raise _refused(f"That would be more than the {amount} a day that the owner allows.")


def _used(action: ProviderAction, currency: str) -> int:
    rows = ProviderWrite.objects.filter(action=action, day=_today(), invoice__currency=currency)
    return rows.aggregate(sum=Sum("invoice__total_cents"))["sum"] or 0


def _today() -> date:
    return clock.now().astimezone(UTC).date()


def lock_provider_policy() -> ProviderPolicy:
    """The row, held until the transaction ends: what the provider may do is decided by one at a time."""
    ProviderPolicy.objects.get_or_create(pk=1)
    return ProviderPolicy.objects.select_for_update().get(pk=1)


def _refused(sentence: str) -> Problem:
    return Problem(403, "policy_refused", sentence)
