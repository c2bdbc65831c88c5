"""What this instance may use: what the portal told last, else what the settings say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from provider_federation.instance.entitlements.models import ONLY_ROW, Entitlement, State
from provider_federation.money import PLANS, Limits


@dataclass(frozen=True)
class Allowed:
    """What may be used. `version` 0: the portal never told anything, and INSTANCE_PLAN says it; then nothing
    is refused, only shown.
    """

    version: int
    plan: str
    state: str
    limits: Limits
    support: str
    valid_from: datetime | None
    received_at: datetime | None

    @property
    def told(self) -> bool:
        return self.version > 0

    @property
    def restricted(self) -> bool:
        return self.state == State.RESTRICTED

    @property
    def plan_name(self) -> str:
        return PLANS[self.plan].name if self.plan in PLANS else self.plan


def allowed_now() -> Allowed:
    """In one query."""
    row = Entitlement.objects.filter(pk=ONLY_ROW).first()
    return _of_settings() if row is None else _of_row(row)


def _of_settings() -> Allowed:
    plan = PLANS[settings.INSTANCE_PLAN]
    state = State.FULL if plan.fee_cents else State.BASE
    return Allowed(0, plan.code, state, plan.limits, plan.support, None, None)


def _of_row(row: Entitlement) -> Allowed:
    limits = Limits(row.leads, row.users, row.ai_credits)
    return Allowed(row.version, row.plan, row.state, limits, row.support, row.valid_from, row.received_at)
