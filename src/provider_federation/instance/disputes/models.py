"""What the client says it should not be charged for by its provider, and what the provider decided."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from provider_federation.instance.invoicing.models import FeedEntry
from provider_federation.instance.leads.models import Lead, new_reference
from provider_federation.instance.people.models import Person

LONGEST_WORDS = 1_000


class DisputeState(models.TextChoices):
    """`filed` was not seen by the provider yet; every other state is the provider's own word."""

    FILED = "filed", "Filed"
    OPEN = "open", "Open"
    ACCEPTED = "accepted", "Accepted"
    REJECTED = "rejected", "Rejected"
    NOT_BILLED = "not_billed", "Not billed"


UNDECIDED = (DisputeState.FILED, DisputeState.OPEN)


class Dispute(models.Model):
    """One lead, in the client's words. From `version` on it is what the provider told: 0 is nothing yet.

    `reference` is its name on the wire: unlike a number it never comes again, not even after a restored backup.
    """

    reference = models.CharField(max_length=40, unique=True, default=new_reference, editable=False)
    lead = models.ForeignKey(Lead, on_delete=models.PROTECT, related_name="disputes")
    claim = models.CharField(max_length=LONGEST_WORDS)
    filed_by = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="disputes")
    filed_at = models.DateTimeField()
    state = models.CharField(max_length=16, choices=DisputeState.choices, default=DisputeState.FILED)
    version = models.PositiveBigIntegerField(default=0)
    decision = models.CharField(max_length=LONGEST_WORDS, blank=True, default="")
    decided_at = models.DateTimeField(null=True, blank=True)
    credit_note_number = models.CharField(max_length=64, blank=True, default="")
    lead_freed = models.BooleanField(default=False)
    told_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["-filed_at", "-id"], name="disputes_dispute_newest")]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=DisputeState.values), name="disputes_state_known"),
            models.CheckConstraint(
                condition=Q(state=DisputeState.FILED, version=0)
                | (~Q(state=DisputeState.FILED) & Q(version__gt=0)),
                name="disputes_filed_until_told",
            ),
            # Only what is filed here: the provider's word, whatever it says, is never refused for another dispute.
            models.UniqueConstraint(
                fields=["lead"], condition=Q(state=DisputeState.FILED), name="disputes_filed_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.lead_id} {self.state}"

    @property
    def undecided(self) -> bool:
        """Whether it waits for the provider."""
        return self.state in UNDECIDED


class DisputeChange(FeedEntry):
    """One entry of the feed of disputes: it was filed, or the provider's word on it was taken."""

    dispute = models.ForeignKey(Dispute, on_delete=models.PROTECT, related_name="changes")

    def __str__(self) -> str:
        return f"{self.seq} {self.dispute_id}"
