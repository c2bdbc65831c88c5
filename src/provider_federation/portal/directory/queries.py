"""Reading the directory: one instance, a page of them, and the targets that the shim calls."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import Prefetch, Q, QuerySet, prefetch_related_objects

from provider_federation.kit.pagination import decode_cursor, encode_cursor
from provider_federation.kit.problem import Problem, not_found
from provider_federation.portal.directory.keys import response_keys, usable_key
from provider_federation.portal.directory.models import Instance, InstanceKey, KeyStatus
from provider_federation.portal.shim import Target

SORTS = ("-created_at", "created_at", "name", "-name", "title", "-title")
STATES = ("ok", "failing", "unchecked")
_MOST = 200


@dataclass(frozen=True)
class InstancePage:
    """`next_cursor` is None on the last page; `total` counts all rows behind the filters."""

    items: list[Instance]
    next_cursor: str | None
    total: int


def get_instance(instance_id: uuid.UUID | str) -> Instance:
    """By id, or Problem 404."""
    return _one(Instance.objects.filter(pk=_uuid(instance_id)))


def get_by_name(name: str) -> Instance:
    """By its name, or Problem 404."""
    return _one(Instance.objects.filter(name=_text(name)))


def get_by_org(org_id: str) -> Instance:
    """By the client's org id (`clientOrgId`), or Problem 404."""
    return _one(Instance.objects.filter(org_id=_text(org_id)))


def list_instances(
    *,
    search: str = "",
    enabled: bool | None = None,
    state: str = "",
    mode: str = "",
    sort: str = "-created_at",
    cursor: str = "",
    limit: int = 50,
) -> InstancePage:
    """One page. `search` looks into name, title, org id and base URL; `state` is one of STATES, `sort` of
    SORTS.

    Problem 400 `invalid_field` or `bad_cursor`.
    """
    if sort not in SORTS:
        raise Problem(400, "invalid_field", f"sort is one of {', '.join(SORTS)}.", field="sort")
    rows = _filtered(search, enabled, state, mode)
    total = rows.count()
    size = max(1, min(limit, _MOST))
    keys = Prefetch("keys", InstanceKey.objects.filter(retired_at__isnull=True))
    found = list(_after(rows, sort, cursor).prefetch_related(keys)[: size + 1])
    items = found[:size]
    return InstancePage(items, _cursor(items[-1], sort) if len(found) > size else None, total)


def enabled_instances() -> QuerySet[Instance]:
    """All instances that the portal calls, by name."""
    return Instance.objects.filter(enabled=True).order_by("name")


def current_key(instance: Instance) -> InstanceKey | None:
    """The key in use; uses what `targets_of` prefetched."""
    return next((key for key in instance.keys.all() if key.status == KeyStatus.IN_USE), None)


def pending_key(instance: Instance) -> InstanceKey | None:
    """The key that waits for the instance."""
    return next((key for key in instance.keys.all() if key.status == KeyStatus.PENDING), None)


def target_of(instance: Instance) -> Target:
    """What the shim needs to call `instance`. A key that cannot be used shows in the outcome, not here."""
    return target_under(instance, current_key(instance))


def target_under(instance: Instance, row: InstanceKey | None) -> Target:
    """The same, signed by another key of the instance's."""
    key, problem = usable_key(row, instance)
    return Target(
        name=instance.name,
        base_url=instance.base_url,
        org_id=instance.org_id,
        key=key,
        scope=row.scope if row else "provider",
        private_hosts=tuple(settings.ALLOWED_PRIVATE_HOSTS),
        key_problem=problem,
        answers=response_keys(instance),
    )


def targets_of(instances: Iterable[Instance]) -> list[tuple[Instance, Target]]:
    """`target_of` for many, with two queries in all."""
    rows = list(instances)
    load_keys(rows)
    return [(row, target_of(row)) for row in rows]


def load_keys(instances: Sequence[Instance]) -> None:
    """What `target_of` reads of each of them, in one query."""
    living = InstanceKey.objects.filter(retired_at__isnull=True)
    prefetch_related_objects(instances, Prefetch("keys", living))


def _one(rows: QuerySet[Instance]) -> Instance:
    instance = rows.first()
    if instance is None:
        raise not_found("instance")
    return instance


def _uuid(value: uuid.UUID | str) -> uuid.UUID:
    try:
        return value if isinstance(value, uuid.UUID) else uuid.UUID(value)
    except ValueError:
        raise not_found("instance") from None


def _text(value: str) -> str:
    if "\x00" in value:  # PostgreSQL has no place for it
        raise Problem(400, "invalid_field", "A NUL character is not text.")
    return value


def _filtered(search: str, enabled: bool | None, state: str, mode: str) -> QuerySet[Instance]:
    rows = Instance.objects.all()
    if search:
        fields = ("name", "title", "org_id", "base_url")
        match = Q()
        for name in fields:
            match |= Q(**{f"{name}__icontains": _text(search)})
        rows = rows.filter(match)
    if enabled is not None:
        rows = rows.filter(enabled=enabled)
    if mode:
        rows = rows.filter(remote_mode=_text(mode))
    if state:
        if state not in STATES:
            raise Problem(400, "invalid_field", f"state is one of {', '.join(STATES)}.", field="state")
        rows = rows.filter(check_ok={"ok": True, "failing": False, "unchecked": None}[state])
    return rows


def _cursor(row: Instance, sort: str) -> str:
    value = getattr(row, sort.removeprefix("-"))
    return encode_cursor(value.isoformat() if isinstance(value, datetime) else value, str(row.pk))


def _after(rows: QuerySet[Instance], sort: str, cursor: str) -> QuerySet[Instance]:
    """Keyset pages: rows behind the last one shown, by the sort key and then the id."""
    column, down = sort.removeprefix("-"), sort.startswith("-")
    rows = rows.order_by(sort, "-pk" if down else "pk")
    if not cursor:
        return rows
    last, last_id = decode_cursor(cursor, (str, str))
    try:
        position = datetime.fromisoformat(str(last)) if column == "created_at" else _text(str(last))
        key = uuid.UUID(str(last_id))
    except ValueError:
        raise Problem(400, "bad_cursor", "This cursor is not one of ours; start again without it.") from None
    direction = "lt" if down else "gt"
    return rows.filter(
        Q(**{f"{column}__{direction}": position}) | Q(**{column: position, f"pk__{direction}": key}),
    )
