"""Telling a person that something needs a look, once per thing."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from provider_federation.instance.invoicing.models import Alert
from provider_federation.kit import clock
from provider_federation.kit.logs import get_logger

_log = get_logger(__name__)


def raise_alert(kind: str, subject: str, sentence: str) -> None:
    """Keep the alert, or count it again when the same thing was told before."""
    now = clock.now()
    with transaction.atomic():
        alert, made = Alert.objects.get_or_create(
            kind=kind, subject=subject, defaults={"sentence": sentence, "first_at": now, "last_at": now}
        )
        if not made:
            Alert.objects.filter(pk=alert.pk).update(times=F("times") + 1, last_at=now)
    _log.warning("alert", kind=kind, subject=subject, sentence=sentence)
