"""Second factors, past allauth's own pages: sealed anew under another master key, or forgotten when they are lost."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db import transaction

from provider_federation.kit.problem import not_found
from provider_federation.kit.secrets import CannotOpen, SecretBox
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.operators.adapters import SEALED_FOR
from provider_federation.portal.operators.models import Operator

_SEALED = (
    "secret",
    "seed",
)  # what allauth encrypts of a factor's data: a TOTP secret, the recovery codes' seed


def reseal_factors() -> tuple[int, int, int]:
    """Seal every factor's secret with the first master key: how many were changed, cannot be opened, and are there."""
    changed = unreadable = seen = 0
    for pk in Authenticator.objects.order_by("pk").values_list("pk", flat=True):
        with transaction.atomic():
            row = Authenticator.objects.select_for_update().filter(pk=pk).first()
            names = [name for name in _SEALED if row is not None and name in row.data]
            try:
                changed += _reseal(row, names)
            except CannotOpen:
                unreadable += len(names)
            seen += len(names)
    return changed, unreadable, seen


def forget_factors(operator_id: int, *, actor: str) -> int:
    """For somebody who lost the device and the recovery codes: the password alone signs in until they set up another.

    How many factors there were. Problem 404.
    """
    with transaction.atomic():
        operator = Operator.objects.select_for_update().filter(pk=operator_id).first()
        if operator is None:
            raise not_found("operator")
        factors = list(Authenticator.objects.filter(user=operator).values_list("type", flat=True))
        Authenticator.objects.filter(user=operator).delete()
        if factors:
            record(Kind.MFA_CHANGED, actor, f"operator:{operator.email}", forgotten=sorted(factors))
    return len(factors)


def _reseal(row: Any, names: list[str]) -> int:
    box = SecretBox(settings.MASTER_KEYS)
    anew = {name: box.reseal(row.data[name], SEALED_FOR) for name in names}
    changed = [name for name in names if anew[name] != row.data[name]]
    if changed:
        row.data = {**row.data, **anew}
        row.save(update_fields=["data"])
    return len(changed)
