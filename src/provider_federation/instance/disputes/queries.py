"""Reading disputes: the list, those of a lead, and the feed."""

from __future__ import annotations

from django.db.models import Max, QuerySet

from provider_federation.instance.disputes.models import UNDECIDED, Dispute, DisputeChange, DisputeState
from provider_federation.instance.invoicing.queries import feed_page
from provider_federation.instance.leads.models import Lead, Source
from provider_federation.kit.problem import Problem


def disputes() -> QuerySet[Dispute]:
    """With what a page shows of each."""
    return Dispute.objects.select_related("lead", "filed_by")


def disputes_of(lead: Lead) -> QuerySet[Dispute]:
    """The newest first."""
    return disputes().filter(lead=lead).order_by("-filed_at", "-pk")


def undecided_of(lead: Lead) -> Dispute | None:
    """The dispute of this lead that still waits, if there is one."""
    return disputes_of(lead).filter(state__in=UNDECIDED).first()


def count_undecided() -> int:
    """How many wait for the provider."""
    return Dispute.objects.filter(state__in=UNDECIDED).count()


def problem_with(lead: Lead) -> Problem | None:
    """Why no dispute of this lead can be filed: 409 `lead_not_charged` or `dispute_decided`; None when one can."""
    if lead.source != Source.SYSTEM or lead.converted_at is None:
        sentence = "The provider charges for converted leads of the system only, so not for this one."
        return Problem(409, "lead_not_charged", sentence)
    credited = Dispute.objects.filter(lead=lead, state=DisputeState.ACCEPTED, lead_freed=False)
    if credited.exists():
        return Problem(409, "dispute_decided", "The provider has credited this lead already.")
    return None


def changes_after(cursor: str | None, limit: int) -> tuple[str, list[DisputeChange], str, bool]:
    """The feed of disputes, as `feed_page` gives it."""
    return feed_page(DisputeChange.objects.select_related("dispute__lead"), cursor, limit)


def last_seq() -> int:
    """The number of the feed's last entry; true until somebody appends (`hold_feed`)."""
    return int(DisputeChange.objects.aggregate(last=Max("seq"))["last"] or 0)
