"""`/api/provider/instances`: the directory for programs and for our own pages (contract, section 4)."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router

from provider_federation.kit.web.api import refuse_body, refuse_unknown_query
from provider_federation.portal.directory import queries, services
from provider_federation.portal.directory.schemas import (
    ConfirmIn,
    EnrolIn,
    InstanceEdit,
    InstanceIn,
    KeyReplacement,
    NewPairIn,
    VersionIn,
    instance_out,
    keys_out,
    page_out,
    response_key_of,
)
from provider_federation.portal.operators.auth import operator_or_token

router = Router(tags=["instances"])
_read = operator_or_token("instances.read")
_check = operator_or_token("instances.check")
_manage = operator_or_token("instances.manage")
_FILTERS = ("search", "enabled", "state", "mode", "sort", "cursor", "limit")


@router.get("", auth=_read, summary="The directory, newest first")
def list_instances(
    request: HttpRequest,
    search: Annotated[str, Query(max_length=200)] = "",
    enabled: Annotated[bool | None, Query()] = None,
    state: Annotated[str, Query(description="ok, failing or unchecked")] = "",
    mode: Annotated[str, Query(max_length=16)] = "",
    sort: Annotated[str, Query(description=", ".join(queries.SORTS))] = "-created_at",
    cursor: Annotated[str, Query(max_length=512)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    refuse_unknown_query(request, _FILTERS)
    page = queries.list_instances(
        search=search,
        enabled=enabled,
        state=state,
        mode=mode,
        sort=sort,
        cursor=cursor,
        limit=limit,
    )
    return page_out(page)


@router.post("", auth=_manage, summary="Add an instance and check it at once")
def add_instance(request: HttpRequest, payload: InstanceIn) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    fields = payload.model_dump(exclude={"key", "client_org_id", "enrolment_code", "response_key"})
    return _answer(
        services.add_instance(
            **fields,
            org_id=payload.client_org_id,
            key=payload.key.value() if payload.key else None,
            code=payload.enrolment_code or "",
            response_key=response_key_of(payload.response_key),
            actor=_actor(request),
        ),
    )


@router.get("/{uuid:instance_id}", auth=_read, summary="One instance")
def get_instance(request: HttpRequest, instance_id: uuid.UUID) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    return _answer(queries.get_instance(instance_id))


@router.patch(
    "/{uuid:instance_id}", auth=_manage, summary="Change an instance; 409 conflict if its version moved on"
)
def edit_instance(request: HttpRequest, instance_id: uuid.UUID, payload: InstanceEdit) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    changes = payload.changes()
    return _answer(services.edit_instance(instance_id, payload.version, actor=_actor(request), **changes))


@router.post("/{uuid:instance_id}/disable", auth=_manage, summary="Stop calling and billing it")
def disable_instance(request: HttpRequest, instance_id: uuid.UUID, payload: VersionIn) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    return _answer(services.disable_instance(instance_id, payload.version, actor=_actor(request)))


@router.post("/{uuid:instance_id}/enable", auth=_manage, summary="Call it again")
def enable_instance(request: HttpRequest, instance_id: uuid.UUID, payload: VersionIn) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    return _answer(services.enable_instance(instance_id, payload.version, actor=_actor(request)))


@router.post(
    "/{uuid:instance_id}/check", auth=_check, summary="Status, signed call and clock difference, now"
)
def check_instance(request: HttpRequest, instance_id: uuid.UUID) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    refuse_body(request)
    return _answer(services.check_instance(queries.get_instance(instance_id), actor=_actor(request)))


@router.post("/{uuid:instance_id}/key", auth=_manage, summary="Replace the signing key")
def replace_key(request: HttpRequest, instance_id: uuid.UUID, payload: KeyReplacement) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    key = payload.key.value()
    response_key = response_key_of(payload.response_key)
    return _answer(
        services.replace_key(
            instance_id, payload.version, key, actor=_actor(request), response_key=response_key
        )
    )


@router.get("/{uuid:instance_id}/keys", auth=_read, summary="Its keys, and what it answers with")
def list_keys(request: HttpRequest, instance_id: uuid.UUID) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    return keys_out(queries.get_instance(instance_id))


@router.post(
    "/{uuid:instance_id}/keys", auth=_manage, summary="Make a pair that waits for the instance's owner"
)
def make_key(request: HttpRequest, instance_id: uuid.UUID, payload: NewPairIn) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    services.make_key(instance_id, payload.version, scope=payload.scope, actor=_actor(request))
    return _answer(queries.get_instance(instance_id))


@router.post(
    "/{uuid:instance_id}/keys/confirm", auth=_manage, summary="Call it with the waiting key, and use that"
)
def confirm_key(request: HttpRequest, instance_id: uuid.UUID, payload: ConfirmIn) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    response_key = response_key_of(payload.response_key)
    return _answer(
        services.confirm_key(instance_id, payload.version, actor=_actor(request), response_key=response_key)
    )


@router.post("/{uuid:instance_id}/keys/rotate", auth=_manage, summary="Introduce, confirm, retire: a new key")
def rotate_key(request: HttpRequest, instance_id: uuid.UUID, payload: VersionIn) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    return _answer(services.rotate_key(instance_id, payload.version, actor=_actor(request)))


@router.post("/{uuid:instance_id}/keys/{uuid:key}/revoke", auth=_manage, summary="Never sign with it again")
def revoke_key(
    request: HttpRequest, instance_id: uuid.UUID, key: uuid.UUID, payload: VersionIn
) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    return _answer(services.revoke_key(instance_id, payload.version, key, actor=_actor(request)))


@router.post("/{uuid:instance_id}/enrol", auth=_manage, summary="Exchange keys by the owner's code")
def enrol_instance(request: HttpRequest, instance_id: uuid.UUID, payload: EnrolIn) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    return _answer(services.enrol_instance(instance_id, payload.version, payload.code, actor=_actor(request)))


@router.post("/{uuid:instance_id}/ratchet/reset", auth=_manage, summary="Let legacy keys sign for it again")
def reset_ratchet(request: HttpRequest, instance_id: uuid.UUID, payload: VersionIn) -> dict[str, Any]:
    refuse_unknown_query(request, ())
    return _answer(services.reset_ratchet(instance_id, payload.version, actor=_actor(request)))


def _answer(instance: Any) -> dict[str, Any]:
    return {"ok": True, "instance": instance_out(instance)}


def _actor(request: HttpRequest) -> str:
    return str(request.actor)  # type: ignore[attr-defined]  # set by operators.auth
