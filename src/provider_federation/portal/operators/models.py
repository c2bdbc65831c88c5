"""Who may use the portal: operators (people) and API tokens (programs)."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models.functions import Lower
from django.utils.crypto import salted_hmac

from provider_federation.kit import clock
from provider_federation.portal.operators.permissions import PERMISSIONS, Role


class OperatorManager(BaseUserManager["Operator"]):
    """Finds operators by address, whatever its case; `services.add_operator` is the way to make one."""

    def get_by_natural_key(self, username: str | None) -> Operator:
        return self.get(email__iexact=username or "")


class Operator(AbstractBaseUser):
    """A person of the provider. Signs in with email and password; the role decides everything else."""

    email = models.EmailField("email address", max_length=254, unique=True)
    name = models.CharField(max_length=120, blank=True)
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.SUPPORT)
    is_active = models.BooleanField("active", default=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    objects: ClassVar[OperatorManager] = OperatorManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["name"]

    class Meta:
        ordering = ["email"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(email=Lower("email")), name="operator_email_lower_case"
            ),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="operator_role_known"),
        ]

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def is_staff(self) -> bool:
        """Every active operator may open the portal; what they see there is decided by permission."""
        return self.is_active

    @property
    def is_superuser(self) -> bool:
        return self.is_active and self.role == Role.ADMIN

    def may(self, permission: str) -> bool:
        """True when the operator is active and the role has `permission` (see permissions.py)."""
        return self.is_active and permission in PERMISSIONS.get(self.role, frozenset())

    def has_perm(self, perm: str, obj: Any = None) -> bool:  # noqa: ARG002  Django's signature
        """Django's model permissions belong to admins alone; the pages ask `may` instead."""
        return self.is_superuser

    def has_perms(self, perm_list: Any, obj: Any = None) -> bool:
        return all(self.has_perm(perm, obj) for perm in perm_list)

    def has_module_perms(self, app_label: str) -> bool:  # noqa: ARG002  Django's signature
        return self.is_superuser

    def get_full_name(self) -> str:
        return str(self)

    def get_short_name(self) -> str:
        return (self.name or self.email).split()[0].split("@")[0]

    def _get_session_auth_hash(self, secret: str | bytes | None = None) -> str:
        # The role belongs to the hash: who is promoted or demoted signs in again, with a new session.
        value = f"{self.password}:{self.role}"
        return salted_hmac(
            "provider_federation.operator", value, secret=secret, algorithm="sha256"
        ).hexdigest()


class ApiToken(models.Model):
    """A program's key to the portal's API. Only its SHA-256 is kept; by `prefix` a person recognises it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80, unique=True)
    role = models.CharField(max_length=16, choices=Role.choices)
    prefix = models.CharField(max_length=16)
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.CharField(max_length=300, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "name"]
        constraints = [
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="token_role_known")
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def usable(self) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or clock.now() < self.expires_at)

    @property
    def state(self) -> str:
        """`active`, `revoked` or `expired`."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.usable else "expired"

    def may(self, permission: str) -> bool:
        """True when the token is usable and its role has `permission`."""
        return self.usable and permission in PERMISSIONS.get(self.role, frozenset())
