"""What each role may do, as plain strings (`<room>.<verb>`); routes and pages ask for one of these."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from django.db import models


class Role(models.TextChoices):
    """The operator's three roles; a token carries one of them too."""

    ADMIN = "admin", "Admin"
    BILLING = "billing", "Billing"
    SUPPORT = "support", "Support"


_SUPPORT: Final = frozenset({"billing.read", "fleet.read", "instances.read", "instances.check"})
_BILLING: Final = frozenset({"billing.read", "billing.manage", "fleet.read", "fleet.act", "instances.read"})
_ADMIN: Final = _SUPPORT | _BILLING | {"instances.manage", "operators.manage", "audit.read"}

PERMISSIONS: Final = MappingProxyType({"admin": _ADMIN, "billing": _BILLING, "support": _SUPPORT})
"""Role to the permissions it has. The union of all of them is what `admin` has."""

KNOWN: Final = _ADMIN
