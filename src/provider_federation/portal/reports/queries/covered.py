"""How much of the truth the reports hold: what Stripe told and was not applied yet, who was not billed, when the
books were last compared, and how fresh the mirror of the instances is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Max, Min, Q

from provider_federation.portal.fleet.queries import Coverage, coverage
from provider_federation.portal.reconciliation.queries import ReportView, last_report
from provider_federation.portal.revenue.models import StripeEvent, UsageInvoice


@dataclass(frozen=True)
class Covered:
    """`events_waiting` were received and not applied yet (the oldest at `waiting_since`), `events_parked` wait for
    a person. `held` and `on_the_way` usage invoices are in no total. `clients` is the mirror's coverage.
    """

    clients: Coverage
    events_waiting: int
    events_parked: int
    waiting_since: datetime | None
    last_event_at: datetime | None
    held: int
    on_the_way: int
    reconciled: ReportView | None

    @property
    def complete(self) -> bool:
        """Nothing is known to be missing."""
        return self.clients.complete and not (
            self.events_waiting or self.events_parked or self.held or self.on_the_way
        )


def covered() -> Covered:
    """As of now."""
    waiting, parked = Q(state="pending"), Q(state="parked")
    events = StripeEvent.objects.order_by().aggregate(last=Max("received_at"))
    open_events = StripeEvent.objects.filter(waiting | parked).order_by()
    stuck = open_events.aggregate(
        waiting=Count("pk", filter=waiting), parked=Count("pk", filter=parked), since=Min("received_at")
    )
    unfinished = UsageInvoice.objects.filter(status__in=("held", "planned", "placing")).order_by()
    counts = unfinished.aggregate(held=Count("pk", filter=Q(status="held")), every=Count("pk"))
    return Covered(
        clients=coverage(),
        events_waiting=stuck["waiting"],
        events_parked=stuck["parked"],
        waiting_since=stuck["since"],
        last_event_at=events["last"],
        held=counts["held"],
        on_the_way=counts["every"] - counts["held"],
        reconciled=last_report(),
    )
