"""Between the phases: a person approves one hash, and nothing else may be executed."""

from __future__ import annotations

import hmac
from uuid import UUID

from django.conf import settings
from django.db import transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.services import Kind as Event
from provider_federation.portal.audit.services import record
from provider_federation.portal.billing_runs.models import BillingRun, RunStatus
from provider_federation.portal.billing_runs.services.hashing import hash_plan
from provider_federation.portal.billing_runs.services.settling import locked_run
from provider_federation.portal.operators.models import ApiToken


def approve_plan(run_id: UUID, plan_hash: str, *, actor: str) -> BillingRun:
    """The plan with this hash may be executed. Problem 404; 409 `not_planned`, `hash_mismatch`,
    `plan_tampered`; 403 `four_eyes`.
    """
    with transaction.atomic():
        run = locked_run(run_id)
        if run.status != RunStatus.PLANNED:
            raise Problem(409, "not_planned", f"This run is {run.status}; only a finished plan is approved.")
        if not same_hash(plan_hash, run.plan_hash):
            sentence = "This is not the hash of the plan as it stands; look at the plan again."
            raise Problem(409, "hash_mismatch", sentence, planHash=run.plan_hash)
        check_untouched(run, run.plan_hash)
        _check_four_eyes(run, actor)
        run.status, run.approved_hash = RunStatus.APPROVED, run.plan_hash
        run.approved_by, run.approved_at = actor, clock.now()
        run.save(update_fields=["status", "approved_hash", "approved_by", "approved_at"])
        record(Event.BILLING_APPROVED, actor, f"billing_run:{run.pk}", period=run.period, hash=run.plan_hash)
    return run


def check_untouched(run: BillingRun, expected: str) -> None:
    """Problem 409 `plan_tampered` unless the rows still hash to what was hashed before."""
    if not same_hash(hash_plan(run), expected):
        sentence = "The rows of this plan were changed after it was hashed; cancel the run and plan anew."
        raise Problem(409, "plan_tampered", sentence, planHash=expected)


def same_hash(one: str, other: str) -> bool:
    """In constant time; never true for an empty one."""
    return bool(one) and hmac.compare_digest(one.encode(), other.encode())


def _check_four_eyes(run: BillingRun, actor: str) -> None:
    planners = {_person(planner) for planner in (run.planned_by, *run.planners)}
    if settings.BILLING_FOUR_EYES and _person(actor) in planners:
        raise Problem(
            403, "four_eyes", "Somebody else than who planned this run, or a part of it, must approve it."
        )


def _person(actor: str) -> str:
    """Whose word it is: behind a token stands whoever made it."""
    kind, _, name = actor.partition(":")
    if kind != "token":
        return actor
    made_by = ApiToken.objects.filter(name=name).values_list("created_by", flat=True).first()
    return made_by or actor
