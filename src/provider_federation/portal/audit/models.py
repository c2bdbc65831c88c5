"""The audit trail: rows that are only ever added, each sealed to the one before it by a hash."""

from __future__ import annotations

from django.db import models

from provider_federation.kit.hash_chain import GENESIS


class AuditEvent(models.Model):
    """What somebody did to something. `number` runs from 1 without gaps; `facts` holds no secret.

    A trigger in the database refuses UPDATE and DELETE; `services.verify_chain` notices what got around it.
    """

    number = models.BigIntegerField(unique=True)
    at = models.DateTimeField()
    kind = models.CharField(max_length=64)
    actor = models.CharField(max_length=254)
    subject = models.CharField(max_length=254)
    facts = models.JSONField(default=dict)
    previous = models.CharField(max_length=80)
    hash = models.CharField(max_length=80)

    class Meta:
        ordering = ["-number"]
        indexes = [
            models.Index(fields=["kind", "-number"], name="audit_kind"),
            models.Index(fields=["subject", "-number"], name="audit_subject"),
            models.Index(fields=["actor", "-number"], name="audit_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.kind} {self.subject}"


class AuditHead(models.Model):
    """One row: how many events there are and the hash of the last. Its lock puts concurrent events in one
    order.
    """

    count = models.BigIntegerField(default=0)
    hash = models.CharField(max_length=80, default=GENESIS)

    def __str__(self) -> str:
        return f"{self.count} {self.hash}"
