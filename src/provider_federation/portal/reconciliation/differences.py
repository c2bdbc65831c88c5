"""A difference as a value, before it is stored or shown."""

from __future__ import annotations

from dataclasses import dataclass

from provider_federation.money import format_amount
from provider_federation.portal.directory.models import Instance

Says = str | int | None
"""What one book says: a word, an amount in minor units or a count, None when it says nothing."""


def in_words(value: Says, currency: str) -> str:
    """What a book says, for a sentence: an amount with its currency, a word as it is."""
    if value is None:
        return "nothing"
    return format_amount(value, currency) if isinstance(value, int) and currency else str(value)


@dataclass(frozen=True)
class Difference:
    """One thing on which the books disagree; fields as in `ReconciliationRow`."""

    kind: str
    subject: str
    message: str
    instance: Instance | None = None
    currency: str = ""
    portal: Says = None
    instance_says: Says = None
    stripe: Says = None
    repair: str = ""
    target: str = ""

    @property
    def client_org_id(self) -> str | None:
        return self.instance.org_id if self.instance else None

    @property
    def gap_cents(self) -> int:
        """How far apart the amounts are; 0 where the books differ in a word."""
        if not self.currency:
            return 0
        amounts = [one for one in (self.portal, self.instance_says, self.stripe) if isinstance(one, int)]
        return max(amounts) - min(amounts) if len(amounts) > 1 else abs(sum(amounts))
