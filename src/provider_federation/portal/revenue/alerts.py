"""Alerts: what about the provider's money a person must see. Raising one twice counts, it does not repeat."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import F

from provider_federation.kit import clock
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.revenue.models import Alert


def raise_alert(kind: str, subject: str, message: str, **facts: Any) -> Alert:
    """One unresolved row for `(kind, subject)`; the first time it is an audit event too."""
    with transaction.atomic():
        alert, made = Alert.objects.get_or_create(
            kind=kind,
            subject=subject[:200],
            resolved_at=None,
            defaults={"message": message[:500], "facts": facts, "raised_at": clock.now()},
        )
        if made:
            record(
                Kind.WEBHOOK_ALERT, "system", f"alert:{alert.pk}", alert=kind, about=subject, message=message
            )
        else:
            Alert.objects.filter(pk=alert.pk).update(times=F("times") + 1)
    return alert


def resolve_alert(alert: Alert, *, actor: str) -> None:
    """The person has seen to it; the same thing happening again raises a new one."""
    with transaction.atomic():
        if Alert.objects.filter(pk=alert.pk, resolved_at=None).update(resolved_at=clock.now()):
            record(Kind.ALERT_RESOLVED, actor, f"alert:{alert.pk}", alert=alert.kind, about=alert.subject)
