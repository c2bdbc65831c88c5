"""The frozen lines of a usage invoice against those that Stripe bills."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from provider_federation.portal.reconciliation.differences import Difference, in_words
from provider_federation.portal.revenue.models import UsageInvoice, UsageLine
from provider_federation.stripe_account import StripeLine

LINE = "pf_line"
"""Where an order leaves the key of each of its lines in Stripe's metadata."""


def compare_lines(row: UsageInvoice, theirs: Iterable[StripeLine]) -> Iterator[Difference]:
    """Every planned line once, with its amount, and no other."""
    ours = {f"{line.kind}:{line.position}": line for line in row.lines.all()}
    seen: set[str] = set()
    for line in theirs:
        key = line.metadata.get(LINE, "")
        if key not in ours or key in seen:
            yield _line(
                row, "line_extra", key or line.id, f"{line.description or line.id}", None, line.amount
            )
        elif ours[key].amount_cents != line.amount:
            yield _line(row, "line_amount", key, ours[key].description, ours[key].amount_cents, line.amount)
        seen.add(key)
    for key in sorted(ours.keys() - seen):
        yield _missing(row, key, ours[key])


def _missing(row: UsageInvoice, key: str, line: UsageLine) -> Difference:
    return _line(row, "line_missing", key, line.description, line.amount_cents, None)


def _line(
    row: UsageInvoice, kind: str, key: str, text: str, here: int | None, there: int | None
) -> Difference:
    said = f"{in_words(here, row.currency)} in the portal, {in_words(there, row.currency)} in Stripe"
    message = f"{row.number or row.period}, “{text}”: {said}."
    return Difference(
        kind=kind,
        subject=f"usage_invoice:{row.pk}:{key}"[:250],
        message=message[:500],
        instance=row.instance,
        currency=row.currency,
        portal=here,
        stripe=there,
        target=row.stripe_invoice_id or "",
    )
