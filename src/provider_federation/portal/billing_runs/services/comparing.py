"""Does an instance still say what its plan was made of? (money rule 10)

Asked when a shard is executed, right before its first call to Stripe, and not when the execution begins: of a run over
thousands of clients the last ones are billed long after the first, and what counts is what their instances say then.
The billed month must be the same to the last digit. Of the months before, whose lines here are late ones, nothing may be
gone; what they gained meanwhile waits for the next run, as late usage does, and holds nobody.

Our own books are asked as well, with the clients locked: what a plan was reckoned from must not have been billed by
another one since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from provider_federation.kit.problem import Problem
from provider_federation.money import HeldReason, Usage
from provider_federation.portal.billing_runs.models import BillingPlanItem
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.revenue.models import Kind
from provider_federation.portal.revenue.periods import month
from provider_federation.portal.revenue.queries import ai_billed_of
from provider_federation.portal.revenue.usage import Reading, digest_of, pull_many, usage_from_json

Readings = Mapping[tuple[UUID, str], Reading | Problem]
_OTHER_CURRENCY = HeldReason(
    "currency_mismatch", "The client is billed in another currency than it was planned in; plan it again."
)


def usage_changed(period: str, items: Sequence[BillingPlanItem]) -> dict[int, HeldReason]:
    """Which of these items of that month no longer match their plan, by id, and why. Their instances are asked
    all at once.
    """
    wanted = [(item.instance, month(label)) for item in items for label in item.usage]
    readings = pull_many(wanted) if wanted else {}
    reasons = {item.pk: _difference(period, item, readings) for item in items}
    return {key: reason for key, reason in reasons.items() if reason is not None}


def books_changed(
    period: str, items: Sequence[BillingPlanItem], clients: Mapping[UUID, Instance]
) -> dict[int, HeldReason]:
    """Which of these plans of that month do not fit our own books any more, by id, and why.

    In the transaction that orders them, with the `clients` locked: AI usage has no unique key, so that two plans
    could hold the same late cost.
    """
    before = {item.pk: _ai_before(period, item) for item in items}
    months = {label for one in before.values() for label in one}
    billed = ai_billed_of(list(clients), months) if months else {}
    reasons = {}
    for item in items:
        if item.currency != clients[item.instance_id].currency:
            reasons[item.pk] = _OTHER_CURRENCY
        for label, cents in before[item.pk].items():
            if billed.get((item.instance_id, label), 0) != cents:
                sentence = f"AI usage of {label} was billed or taken back since it was planned; plan this client again."
                reasons[item.pk] = HeldReason("ai_already_billed", sentence)
    return reasons


def _ai_before(period: str, item: BillingPlanItem) -> dict[str, int]:
    """What had been billed of each month's AI usage when its line was reckoned."""
    lines = (line for line in item.lines if line["kind"] == Kind.AI)
    return {line["lateFor"] or period: line["evidence"]["billedBeforeCents"] for line in lines}


def _difference(period: str, item: BillingPlanItem, readings: Readings) -> HeldReason | None:
    for label, frozen in item.usage.items():
        reading = readings[item.instance_id, label]
        if isinstance(reading, Problem):
            return HeldReason(reading.code, reading.message)
        may_grow = label != period
        if reading.digest != digest_of(frozen) and not (may_grow and _holds_all(reading.usage, frozen)):
            sentence = f"The usage of {label} is not what was planned any more; plan this client again."
            return HeldReason("usage_changed", sentence)
    return None


def _holds_all(usage: Usage, frozen: dict[str, Any]) -> bool:
    planned = usage_from_json(frozen)
    same = (usage.client, usage.currency, usage.period) == (planned.client, planned.currency, planned.period)
    more = usage.ai_cost >= planned.ai_cost and usage.ai_calls >= planned.ai_calls
    return same and more and set(planned.leads) <= set(usage.leads)
