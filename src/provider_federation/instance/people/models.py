"""The client's own people. An email signs in; a role says what for."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models

from provider_federation.kit import clock


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    BILLING = "billing", "Billing"
    VIEWER = "viewer", "Viewer"


PERMISSIONS: dict[str, frozenset[str]] = {
    Role.OWNER: frozenset({"billing.read", "billing.manage", "instance.manage"}),
    Role.BILLING: frozenset({"billing.read", "billing.manage"}),
    Role.VIEWER: frozenset({"billing.read"}),
}


class PersonManager(BaseUserManager["Person"]):
    def get_by_natural_key(self, username: str | None) -> Person:
        """Emails are kept in lower case, so that one person has one account however they type it."""
        return self.get(email=(username or "").lower())


class Person(AbstractBaseUser):
    """Somebody who signs in to this instance."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120)
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.VIEWER)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    objects = PersonManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["name"]

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="people_person_role"),
        ]

    def __str__(self) -> str:
        return self.name or self.email

    def may(self, permission: str) -> bool:
        """Whether this person's role holds `billing.read`, `billing.manage` or `instance.manage`."""
        return self.is_active and permission in PERMISSIONS.get(self.role, frozenset())
