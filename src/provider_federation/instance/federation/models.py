"""The keys that were added while the instance runs, the invitations they came by, and what it signs answers with."""

from __future__ import annotations

from django.db import models

from provider_federation.kit import clock


class KeySource(models.TextChoices):
    """Where a key came from. One of the environment has its material there; its row keeps the rest."""

    ENVIRONMENT = "environment", "environment"
    ENROLLED = "enrolled", "enrolment"
    ROTATED = "rotated", "rotation"


class FederationKey(models.Model):
    """One key of the portal's, verified with `public_key` (32 bytes in base64; empty for the environment's).

    A rotated key lives a day until it is confirmed (`not_after`). `revoked_at` ends any key at once.
    """

    key_id = models.CharField(max_length=128, unique=True)
    source = models.CharField(max_length=16, choices=KeySource.choices)
    public_key = models.CharField(max_length=44, blank=True, default="")
    scope = models.CharField(max_length=16, blank=True, default="")
    created_at = models.DateTimeField()
    confirmed_at = models.DateTimeField(null=True, blank=True)
    not_after = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_scheme = models.CharField(max_length=8, blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["public_key"],
                condition=~models.Q(public_key=""),
                name="federation_key_material_once",
            ),
        ]

    def __str__(self) -> str:
        return self.key_id

    @property
    def is_unconfirmed(self) -> bool:
        """Whether it was introduced, and has not said by its own signature that the portal has it."""
        return self.source == KeySource.ROTATED and self.confirmed_at is None

    @property
    def has_ended(self) -> bool:
        return self.revoked_at is not None or (self.not_after is not None and self.not_after <= clock.now())

    @property
    def is_retiring(self) -> bool:
        """Whether another took its place, and it only lives for the calls that were under way."""
        return self.not_after is not None and not self.is_unconfirmed


class Invitation(models.Model):
    """One opening for a portal. `name` is the code's public half; `digest` (hex) verifies the secret one.

    Open while `closed_at` is None and `expires_at` has not come; `tries` counts what was refused.
    """

    name = models.CharField(max_length=32, unique=True)
    digest = models.CharField(max_length=64)
    scope = models.CharField(max_length=16)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    used_by = models.CharField(max_length=128, blank=True, default="")
    tries = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return self.name


class ResponseKey(models.Model):
    """The instance's own identity when the environment gives none: one row, `pk` 1. `sealed` holds the seed."""

    key_id = models.CharField(max_length=128)
    sealed = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(pk=1), name="federation_responsekey_one"),
        ]

    def __str__(self) -> str:
        return self.key_id
