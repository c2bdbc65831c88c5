"""What is going to be billed, before it is: frozen lines with their evidence, as values and as JSON.

The JSON is canonical (kit.hash_chain), so that a plan that is kept in rows can be hashed and hashed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from provider_federation.kit.hash_chain import digest
from provider_federation.money import HeldReason, RatedLine, UsageLead, format_amount
from provider_federation.portal.revenue.models import Kind


@dataclass(frozen=True)
class PlannedLead:
    """A lead behind a line; `converted_at` as its instance wrote it."""

    lead_id: str
    public_id: str
    converted_at: str
    evidence: str


@dataclass(frozen=True)
class PlannedLine:
    """One line of a usage invoice to be. Amounts in minor units; `late_for` and `evidence` as in UsageLine."""

    kind: str
    description: str
    quantity: int
    unit_price_cents: int | None
    amount_cents: int
    late_for: str
    evidence: Mapping[str, Any]
    leads: tuple[PlannedLead, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Canonical: strings, whole numbers, lists."""
        return {
            "kind": self.kind,
            "description": self.description,
            "quantity": self.quantity,
            "unitPriceCents": self.unit_price_cents,
            "amountCents": self.amount_cents,
            "lateFor": self.late_for,
            "evidence": dict(self.evidence),
            "leads": [[one.lead_id, one.public_id, one.converted_at, one.evidence] for one in self.leads],
        }

    @classmethod
    def from_json(cls, frozen: Mapping[str, Any]) -> PlannedLine:
        """The line that `to_json` froze."""
        return cls(
            kind=frozen["kind"],
            description=frozen["description"],
            quantity=frozen["quantity"],
            unit_price_cents=frozen["unitPriceCents"],
            amount_cents=frozen["amountCents"],
            late_for=frozen["lateFor"],
            evidence=frozen["evidence"],
            leads=tuple(PlannedLead(*one) for one in frozen["leads"]),
        )


@dataclass(frozen=True)
class ClientPlan:
    """What one client is to be billed for a month: lines, or the reasons that hold it, never both.

    `usage` has the readings by month (`usage.usage_to_json`), `digest` is that of the month itself;
    `over_limits` names the limits of the plan that the client passed.
    """

    lines: tuple[PlannedLine, ...]
    held: tuple[HeldReason, ...]
    usage: Mapping[str, dict[str, Any]]
    digest: str
    over_limits: tuple[str, ...] = ()

    @property
    def total_cents(self) -> int:
        return sum(line.amount_cents for line in self.lines)


def lead_lines(
    rated: Iterable[RatedLine], leads: Mapping[str, UsageLead], period: str, currency: str
) -> list[PlannedLine]:
    """One line for all leads of a month that cost the same, in the order of `rated`."""
    ordered = sorted(rated, key=lambda line: line.amount_cents)
    groups = groupby(ordered, key=lambda line: line.amount_cents)
    return [_lead_line(list(group), leads, period, price, currency) for price, group in groups]


def _lead_line(
    group: list[RatedLine], leads: Mapping[str, UsageLead], period: str, price: int, currency: str
) -> PlannedLine:
    behind = tuple(_planned_lead(leads[line.lead_id or ""]) for line in group)
    late = group[0].late_for
    count = f"{len(group)} converted lead{'s' if len(group) != 1 else ''}"
    each = f"{format_amount(price, currency)} each"
    return PlannedLine(
        kind=Kind.LEADS.value,
        description=f"{count} in {period}, {each}" + (", late" if late else ""),
        quantity=len(group),
        unit_price_cents=price,
        amount_cents=price * len(group),
        late_for=late,
        evidence={"leads": len(group), "digest": digest([[one.lead_id, one.evidence] for one in behind])},
        leads=behind,
    )


def _planned_lead(lead: UsageLead) -> PlannedLead:
    stated = lead.stated_at or lead.converted_at.isoformat()
    return PlannedLead(lead.lead_id, lead.public_id, stated, lead.evidence)
