"""Enrolment, rotation and policy (contract, section 3)."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Body, Router

from provider_federation.instance.federation import services
from provider_federation.instance.federation.models import FederationKey
from provider_federation.instance.federation.queries import state_of
from provider_federation.instance.federation.schemas_keys import (
    EnrolIn,
    EnrolOut,
    KeyIn,
    KeyOut,
    KeysIn,
    KeysOut,
    PolicyOut,
    ResponseKeyOut,
)
from provider_federation.instance.invoicing.idempotency import run_once
from provider_federation.instance.invoicing.services import provider_policy, used_today
from provider_federation.instance.people.access import Access, caller_of, principal_of
from provider_federation.instance.wire import iso
from provider_federation.kit.problem import Problem
from provider_federation.kit.web.api import refuse_unknown_query
from provider_federation.protocol import Principal
from provider_federation.protocol.pairing import invitation_name, public_text

router = Router(tags=["federation"], by_alias=True)


def signed(request: HttpRequest) -> Principal:
    """For what neither a person nor a legacy signature may do: that one covers no body, so it carries no key."""
    principal: Principal | None = principal_of(request)
    if principal is None:
        raise Problem(401, "signature_required", "Only a signed request may do this.")
    if principal.scheme != "v2":
        raise Problem(403, "modern_signature_required", "Only a v2 signature covers a key; sign with v2.")
    return principal


@router.post("/federation/enrol", response=EnrolOut, auth=None)
def enrol(request: HttpRequest, body: Body[EnrolIn]) -> EnrolOut:
    """Pair with a portal: signed with the owner's one-time code, and answered with a signature by the same."""
    refuse_unknown_query(request, ())
    principal = principal_of(request)
    if principal is None or not invitation_name(principal.key_id):
        raise Problem(
            403, "enrolment_closed", "Enrolment takes a request that is signed with the owner's code."
        )
    key = body.key
    answers = services.enrol(principal.key_id, key_id=key.id, public_key=key.public_key, scope=key.scope)
    return EnrolOut(
        instance=settings.INSTANCE_NAME,
        org=settings.INSTANCE_ORG_ID,
        title=settings.INSTANCE_TITLE,
        key_id=key.id,
        scope=key.scope,
        response_key=ResponseKeyOut(id=answers.id, public_key=public_text(answers)),
    )


@router.post("/federation/keys", response=KeysOut, auth=Access("instance.manage"))
def keys(request: HttpRequest, body: Body[KeysIn]) -> HttpResponse:
    """Rotation: introduce a key by the current one, confirm it by itself, retire the old one by the new."""
    refuse_unknown_query(request, ())
    by = signed(request)
    return run_once(request, caller_of(request), lambda: _answer(_change(by, body)), transactional=True)


@router.get("/federation/policy", response=PolicyOut, auth=Access("billing.read", "read"))
def policy(request: HttpRequest) -> PolicyOut:
    """What the owner of this instance lets the provider do."""
    refuse_unknown_query(request, ())
    row, used = provider_policy(), used_today()
    return PolicyOut(
        frozen=row.frozen,
        actions={"draft": row.may_draft, "send": row.may_send},
        daily_limit_cents=row.daily_limit_cents,
        currency=row.currency,
        drafted_today_cents=used.drafted_cents,
        sent_today_cents=used.sent_cents,
        enrolment_open=services.open_invitation() is not None,
    )


def _change(by: Principal, body: KeysIn) -> FederationKey:
    match body.action:
        case "introduce":
            key = _only_key(body)
            return services.introduce_key(by, key_id=key.id, public_key=key.public_key, scope=key.scope)
        case "confirm":
            return services.confirm_key(by, _only_id(body, overlap=False))
        case "retire":
            return services.retire_key(by, _only_id(body, overlap=True), body.overlap_seconds or 0)


def _only_key(body: KeysIn) -> KeyIn:
    if body.key is None or body.key_id is not None or body.overlap_seconds is not None:
        raise Problem(400, "invalid_field", "introduce takes key, and nothing else.", field="key")
    return body.key


def _only_id(body: KeysIn, *, overlap: bool) -> str:
    if body.key_id is None or body.key is not None or (body.overlap_seconds is not None and not overlap):
        raise Problem(400, "invalid_field", f"{body.action} takes keyId.", field="keyId")
    return body.key_id


def _answer(row: FederationKey) -> KeysOut:
    ends = None if row.not_after is None else iso(row.not_after)
    return KeysOut(
        key=KeyOut(id=row.key_id, scope=row.scope or "provider", state=state_of(row), not_after=ends)
    )
