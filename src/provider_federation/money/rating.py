"""Usage to invoice lines: each converted lead once, AI usage at cost up to the cap. The subscription fee is
never a line here.

Nothing that an instance sends sets an amount (money rule 9): it sends leads and an exact cost, and what
looks wrong holds the client with a reason instead of making a line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from provider_federation.money.amount import (
    STRIPE_MAXIMUM,
    check_amount,
    check_currency,
    exact,
    exact_product,
    exact_sum,
    round_half_up,
)
from provider_federation.money.errors import BadAmount, MoneyError
from provider_federation.money.period import Period
from provider_federation.money.plans import LEAD_PRICE_CENTS, PRICE_CURRENCY, Limits

JUMP: Final = 100
"""A hundred times last month's leads or AI cost is looked at by a person first."""
MAXIMUM_LEADS: Final = 100_000
MAXIMUM_AI_COST: Final = Decimal(1_000_000)
"""Above these a month's figures are absurd for any client, also for a new one."""
_LEAD_SOURCE: Final = "system"  # only what the system brought in is billed, and the evidence says so


@dataclass(frozen=True)
class UsageLead:
    """A converted lead as the instance reports it. `evidence` is `sha256:<hex>` over id, public id, time
    and source; `stated_at` is the time in the very form that the evidence was made over.
    """

    lead_id: str
    public_id: str
    converted_at: datetime
    evidence: str
    stated_at: str = ""


@dataclass(frozen=True)
class LimitsUsed:
    """What of the plan's limits a client used in the month, as its instance counts."""

    leads: int
    users: int
    ai_credits: int


@dataclass(frozen=True)
class Usage:
    """One client's usage of one period, whole (all pages). `ai_cost` is exact, in major units of `currency`.

    `lead_count` is the number that the instance itself states; None when it states none.
    """

    client: str
    period: Period
    currency: str
    leads: Sequence[UsageLead]
    ai_cost: Decimal
    ai_calls: int = 0
    lead_count: int | None = None
    limits: LimitsUsed | None = None


@dataclass(frozen=True)
class RatedLine:
    """One line of a usage invoice. `key` is stable over runs ("lead:<id>", "ai:<period>"); amounts in minor
    units. `late_for` is the label of an earlier period that this belongs to, "" for the one that is billed.
    """

    key: str
    kind: str
    description: str
    amount_cents: int
    currency: str
    lead_id: str | None = None
    evidence: str | None = None
    occurred_at: datetime | None = None
    late_for: str = ""


@dataclass(frozen=True)
class HeldReason:
    """Why a client is held: a stable code and a sentence for the person who looks."""

    code: str
    message: str


@dataclass(frozen=True)
class Rating:
    """What the usage costs. When `held_reasons` is not empty there are no lines and the subtotal is 0:
    nothing may be sent.
    """

    lines: tuple[RatedLine, ...]
    subtotal: int
    held_reasons: tuple[HeldReason, ...]
    already_billed: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        return bool(self.held_reasons)


def rate(
    usage: Usage,
    *,
    client: str,
    period: Period,
    already_billed: Collection[str],
    cap: int,
    markup: Decimal = Decimal(0),
    currency: str = PRICE_CURRENCY,
    previous: Iterable[Usage] = (),
    lead_price: int | None = None,
    ai_billed: int = 0,
    late: bool = False,
) -> Rating:
    """Rate one client's usage of one period.

    `client`, `period`, `currency`: what we asked for, as our own records have it. `already_billed`: lead
    ids that were ever billed to this client. `cap` and `markup`: the AI terms in force that month.
    `previous`: earlier usage of this client that we hold; of the same period it guards against counters
    that run backwards, of all against a hundredfold jump. `lead_price` in minor units: $100 unless given,
    and without one any other currency is held. `ai_billed`: what this period's AI usage was billed before;
    only the rest up to the cap is billed now. `late`: the period was invoiced before, its lines say so.
    BadAmount for a cap, markup or price that is ours and wrong.
    """
    check_currency(currency)
    check_amount(cap)
    check_amount(ai_billed)
    price = _lead_price(lead_price, currency)
    if exact(markup) < 0:
        raise BadAmount("A markup is a fraction of at least 0.")
    reasons = tuple(_suspicions(usage, client, period, currency, price, previous))
    if reasons:
        return Rating((), 0, reasons)
    leads = sorted(
        {lead.lead_id: lead for lead in usage.leads}.values(),
        key=lambda lead: (lead.converted_at, lead.lead_id),
    )
    late_for = period.label if late else ""
    lines = [
        _lead_line(lead, price, currency, late_for) for lead in leads if lead.lead_id not in already_billed
    ]
    rest = ai_amount(usage.ai_cost, cap=cap, markup=markup, currency=currency) - ai_billed
    lines += _ai_lines(period, rest, ai_billed, currency, late_for)
    billed = tuple(lead.lead_id for lead in leads if lead.lead_id in already_billed)
    return combine([Rating(tuple(lines), 0, (), billed)])


def combine(ratings: Iterable[Rating]) -> Rating:
    """The ratings of one client's periods as one invoice's: a lead that two of them list counts where it
    comes first, and whatever holds one of them holds all.
    """
    lines: dict[str, RatedLine] = {}
    billed: dict[str, None] = {}
    reasons: dict[HeldReason, None] = {}
    for rating in ratings:
        lines = {line.key: line for line in rating.lines} | lines
        billed.update(dict.fromkeys(rating.already_billed))
        reasons.update(dict.fromkeys(rating.held_reasons))
    subtotal = sum(line.amount_cents for line in lines.values())
    if not reasons and subtotal > STRIPE_MAXIMUM:
        reasons[HeldReason("amount_too_large", "One invoice cannot hold this amount; split it by hand.")] = (
            None
        )
    if reasons:
        return Rating((), 0, tuple(reasons))
    return Rating(tuple(lines.values()), subtotal, (), tuple(billed))


def lead_evidence(lead: UsageLead) -> str:
    """The evidence that an honest instance states for this lead (docs/architecture.md): `sha256:<hex>` over
    canonical JSON.
    """
    stated = lead.stated_at or _milliseconds(lead.converted_at)
    facts = {
        "leadId": lead.lead_id,
        "leadPublicId": lead.public_id,
        "convertedAt": stated,
        "source": _LEAD_SOURCE,
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def over_limits(used: LimitsUsed, limits: Limits) -> tuple[str, ...]:
    """Which limits of the plan the client passed: of `leads users ai_credits`. It is told of, never charged."""
    pairs = {name: (getattr(used, name), getattr(limits, name)) for name in ("leads", "users", "ai_credits")}
    return tuple(name for name, (count, limit) in pairs.items() if limit is not None and count > limit)


def ai_amount(
    cost: Decimal, *, cap: int, markup: Decimal = Decimal(0), currency: str = PRICE_CURRENCY
) -> int:
    """`min(round(cost with markup), cap)` in minor units: rounded once, half up."""
    return min(round_half_up(exact_product(cost, exact_sum([Decimal(1), markup])), currency), cap)


def _lead_price(given: int | None, currency: str) -> int:
    if given is not None:
        return check_amount(given)
    return LEAD_PRICE_CENTS if currency.upper() == PRICE_CURRENCY else 0


def _lead_line(lead: UsageLead, price: int, currency: str, late_for: str) -> RatedLine:
    description = f"Converted lead {lead.public_id}"
    return RatedLine(
        f"lead:{lead.lead_id}",
        "lead",
        description,
        price,
        currency.upper(),
        lead.lead_id,
        lead.evidence,
        lead.converted_at,
        late_for,
    )


def _ai_lines(period: Period, amount: int, billed: int, currency: str, late_for: str) -> list[RatedLine]:
    if amount <= 0:
        return []  # it shrank after it was billed: a correction is a credit note, never a negative line
    key = f"ai:{period.start.isoformat()}" + (f":after:{billed}" if billed else "")
    description = f"AI usage, {period.label}" + (", late" if late_for else "")
    return [RatedLine(key, "ai", description, amount, currency.upper(), late_for=late_for)]


def _milliseconds(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _suspicions(
    usage: Usage, client: str, period: Period, currency: str, price: int, previous: Iterable[Usage]
) -> Iterator[HeldReason]:
    if usage.client != client:
        yield HeldReason("wrong_client", "The instance answered for another client.")
    if usage.period != period:
        yield HeldReason("wrong_period", "The instance answered for another period.")
    if usage.currency.upper() != currency.upper():
        yield HeldReason(
            "currency_mismatch", "The instance counts in another currency than the client is billed in."
        )
    if price == 0 and usage.leads:
        yield HeldReason("no_lead_price", "There is no price for a lead in this currency.")
    unreadable = tuple(_unreadable(usage))
    yield from unreadable
    if unreadable:
        return  # what cannot be read cannot be compared
    yield from _bad_numbers(usage)
    yield from _bad_leads(usage, period)
    for earlier in previous:
        if earlier.client == client and earlier.currency.upper() == usage.currency.upper():
            yield from _jumps(usage, earlier)
            if earlier.period == usage.period:
                yield from _backwards(usage, earlier)


def _unreadable(usage: Usage) -> Iterator[HeldReason]:
    try:
        exact(usage.ai_cost)
    except MoneyError as error:
        yield HeldReason("bad_amount", error.message)
    if any(not lead.lead_id or lead.converted_at.tzinfo is None for lead in usage.leads):
        yield HeldReason("bad_lead", "A lead has no id, or no time zone at its time.")


def _bad_numbers(usage: Usage) -> Iterator[HeldReason]:
    if usage.ai_cost < 0 or usage.ai_calls < 0 or (usage.lead_count or 0) < 0:
        yield HeldReason("negative_usage", "Usage cannot be negative; corrections are credit notes.")
    if (
        usage.ai_cost > MAXIMUM_AI_COST
        or len(usage.leads) > MAXIMUM_LEADS
        or (usage.lead_count or 0) > MAXIMUM_LEADS
    ):
        yield HeldReason("absurd_usage", "These figures are far above what any client uses in a period.")
    if usage.lead_count is not None and usage.lead_count != len({lead.lead_id for lead in usage.leads}):
        yield HeldReason("count_mismatch", "The instance states another number of leads than it lists.")


def _bad_leads(usage: Usage, period: Period) -> Iterator[HeldReason]:
    if not all(period.contains(lead.converted_at) for lead in usage.leads):
        yield HeldReason("lead_outside_period", "A lead was converted outside the period.")
    different = set(usage.leads)  # the very same lead listed twice is harmless: it is one lead
    ids, public_ids = {lead.lead_id for lead in different}, {lead.public_id for lead in different}
    if not len(different) == len(ids) == len(public_ids):
        yield HeldReason("duplicate_lead", "Two different entries claim to be the same lead.")
    if any(lead.evidence != lead_evidence(lead) for lead in different):
        yield HeldReason(
            "evidence_mismatch", "The evidence of a lead is not that of its id, time and source."
        )


def _backwards(usage: Usage, earlier: Usage) -> Iterator[HeldReason]:
    lost = {lead.lead_id for lead in earlier.leads} - {lead.lead_id for lead in usage.leads}
    if lost or usage.ai_cost < earlier.ai_cost or usage.ai_calls < earlier.ai_calls:
        yield HeldReason(
            "counter_backwards",
            f"{usage.period.label} counted more before; was the instance restored from a backup?",
        )


def _jumps(usage: Usage, earlier: Usage) -> Iterator[HeldReason]:
    leads, before = len(set(usage.leads)), len(set(earlier.leads))
    if leads >= JUMP * max(before, 1):
        yield HeldReason("usage_jump", f"{leads} leads after {before} in {earlier.period.label}.")
    if usage.ai_cost >= JUMP * max(earlier.ai_cost, Decimal(1)):
        yield HeldReason(
            "usage_jump",
            f"AI usage of {usage.ai_cost} {usage.currency.upper()} after {earlier.ai_cost} in {earlier.period.label}.",
        )
