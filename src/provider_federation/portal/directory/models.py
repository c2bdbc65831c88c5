"""The client instances the portal knows, and the keys it signs with."""

from __future__ import annotations

import uuid

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from provider_federation.protocol.values import LEGACY_ALGORITHMS

NAME_PATTERN = r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"
ORG_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"


class Instance(models.Model):
    """One client's deployment of the app. `name` is what its key is bound to; `org_id` is the contract's
    `clientOrgId`.

    `version` goes up with every edit (optimistic locking); a check does not touch it. `ai_cap_cents` is in
    minor units of `currency`. `check_ok` is None until the first check; `check_code` is `ok` or an outcome's
    code. `remote_policy` is what its owner allows, as the last check read it. `response_public_key` (ed25519, 32
    bytes in base64) is what it signs its answers with. Since `v2_since` it answers v2: the ratchet, after which
    this portal signs no legacy call to it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=63, unique=True, validators=[RegexValidator(NAME_PATTERN)])
    title = models.CharField(max_length=200)
    base_url = models.CharField(max_length=300)
    org_id = models.CharField(max_length=128, unique=True, validators=[RegexValidator(ORG_PATTERN)])
    environment = models.CharField(max_length=40, default="production")
    notes = models.TextField(blank=True, default="", max_length=4000)
    enabled = models.BooleanField(default=True)
    currency = models.CharField(max_length=3, default="usd", validators=[RegexValidator(r"^[a-z]{3}$")])
    ai_cap_cents = models.BigIntegerField(default=5000, validators=[MinValueValidator(0)])
    billing_email = models.EmailField(blank=True, default="")
    version = models.PositiveIntegerField(default=1)

    checked_at = models.DateTimeField(null=True, blank=True)
    check_ok = models.BooleanField(null=True, blank=True)
    check_code = models.CharField(max_length=64, blank=True, default="")
    check_message = models.CharField(max_length=500, blank=True, default="")
    clock_offset_ms = models.IntegerField(null=True, blank=True)
    remote_mode = models.CharField(max_length=16, blank=True, default="")
    remote_version = models.CharField(max_length=64, blank=True, default="")
    remote_capabilities = models.JSONField(default=list, blank=True)
    remote_policy = models.JSONField(default=dict, blank=True)

    response_key_id = models.CharField(max_length=128, blank=True, default="")
    response_public_key = models.CharField(max_length=44, blank=True, default="")
    v2_since = models.DateTimeField(null=True, blank=True)

    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(ai_cap_cents__gte=0), name="directory_ai_cap_not_negative"),
            models.CheckConstraint(condition=Q(currency__regex=r"^[a-z]{3}$"), name="directory_currency_iso"),
            models.CheckConstraint(condition=Q(name__regex=NAME_PATTERN), name="directory_name_slug"),
        ]

    def __str__(self) -> str:
        return self.title or self.name


class Algorithm(models.TextChoices):
    """What a key signs with; the key decides, never a request."""

    H31 = "h31", "h31 (development only)"
    SHA256 = "sha256", "HMAC-SHA256, legacy"
    HMAC_SHA256 = "hmac-sha256", "HMAC-SHA256, v2"
    ED25519 = "ed25519", "Ed25519, v2"


class Scope(models.TextChoices):
    """The ceiling of a key (contract, section 1)."""

    READ = "read", "read"
    PROVIDER = "provider", "provider"


class KeyStatus(models.TextChoices):
    """`pending`: made here, and the instance has yet to take it. One key of an instance is in use."""

    PENDING = "pending", "Waits for the instance"
    IN_USE = "in_use", "In use"
    RETIRED = "retired", "Retired"
    REVOKED = "revoked", "Revoked"


class InstanceKey(models.Model):
    """One signing key. `sealed` is a `kit.secrets` value bound to `row`: the secret (for ed25519 the seed), never
    shown again. `public_key` (ed25519: 32 bytes in base64) is what the instance's owner gets.

    `answered_at` is the last check that the instance answered under it; `retired_there_at` when the instance said
    that it has ended a retired key.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="keys")
    key_id = models.CharField(max_length=128)
    algorithm = models.CharField(max_length=16, choices=Algorithm.choices)
    status = models.CharField(max_length=16, choices=KeyStatus.choices, default=KeyStatus.IN_USE)
    public_key = models.CharField(max_length=44, blank=True, default="")
    sealed = models.TextField(editable=False)
    scope = models.CharField(max_length=16, choices=Scope.choices, default=Scope.PROVIDER)
    not_before = models.DateTimeField(null=True, blank=True)
    not_after = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    retired_there_at = models.DateTimeField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["instance"], condition=Q(status="in_use"), name="directory_one_key_in_use"
            ),
            models.UniqueConstraint(
                fields=["instance"], condition=Q(status="pending"), name="directory_one_key_pending"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key_id} ({self.algorithm})"

    @property
    def scheme(self) -> str:
        """What it signs with, in the words of the status route: h31, sha256 or v2."""
        return self.algorithm if self.algorithm in LEGACY_ALGORITHMS else "v2"

    @property
    def row(self) -> str:
        """What the sealed secret is bound to."""
        return f"directory.InstanceKey:{self.id}"
