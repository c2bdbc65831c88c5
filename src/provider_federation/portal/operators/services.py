"""Operators and tokens: making, changing and judging them. Raises `Problem` for what a caller gets wrong."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timedelta
from uuid import UUID

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem, not_found
from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.operators.models import ApiToken, Operator
from provider_federation.portal.operators.permissions import KNOWN, Role

TOKEN_PREFIX = "pft_"  # noqa: S105  the visible mark of a token, not one
_TOKEN = re.compile(r"pft_[A-Za-z0-9_-]{43}")
_SHOWN = 10
_USE_IS_NOTED_EVERY = timedelta(minutes=1)


def allowed(operator: object, permission: str) -> bool:
    """May this operator (or token, or nobody) do this? ValueError for a permission that does not exist."""
    if permission not in KNOWN:
        raise ValueError(f"there is no permission {permission!r}")
    return isinstance(operator, Operator | ApiToken) and operator.may(permission)


def actor_of(caller: Operator | ApiToken) -> str:
    """How the audit log names the caller: `operator:<email>` or `token:<name>`."""
    return f"operator:{caller.email}" if isinstance(caller, Operator) else f"token:{caller.name}"


def add_operator(
    *, email: str, password: str, role: str = Role.SUPPORT, name: str = "", actor: str = "system"
) -> Operator:
    """Make an operator who can sign in at once. Problem 400 `invalid_field`, 409 `operator_exists`."""
    address = _clean_email(email)
    operator = Operator(email=address, name=name.strip(), role=_clean_role(role))
    _check_password(password, operator)
    operator.set_password(password)
    with transaction.atomic():
        _insert(
            operator, Problem(409, "operator_exists", f"{address} is an operator already.", field="email")
        )
        record(Kind.OPERATOR_ADDED, actor, _subject(operator), role=operator.role)
    return operator


def change_operator(operator_id: int, *, actor: str, role: str, name: str, is_active: bool) -> Operator:
    """Set role, name and whether they may sign in. The last active admin stays one: 409 `last_admin`."""
    with transaction.atomic():
        admins = list(
            Operator.objects.select_for_update().filter(role=Role.ADMIN, is_active=True).order_by("pk")
        )
        operator = Operator.objects.select_for_update().filter(pk=operator_id).first()
        if operator is None:
            raise not_found("operator")
        stays = is_active and _clean_role(role) == Role.ADMIN
        if not stays and [admin.pk for admin in admins] == [operator.pk]:
            raise Problem(409, "last_admin", "This is the last active admin; make another one first.")
        operator.role, operator.name, operator.is_active = role, name.strip(), is_active
        operator.save(update_fields=["role", "name", "is_active"])
        kind = Kind.OPERATOR_CHANGED if is_active else Kind.OPERATOR_DEACTIVATED
        record(kind, actor, _subject(operator), role=role, active=is_active)
    return operator


def set_password(operator_id: int, password: str, *, actor: str) -> None:
    """A new password; every session of the operator ends with the old one."""
    with transaction.atomic():
        operator = Operator.objects.select_for_update().filter(pk=operator_id).first()
        if operator is None:
            raise not_found("operator")
        _check_password(password, operator)
        operator.set_password(password)
        operator.save(update_fields=["password"])
        record(Kind.PASSWORD_CHANGED, actor, _subject(operator))


def create_token(
    *, name: str, role: str, actor: str, expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """The row and the secret, which is shown once and never stored. Problem 400 or 409 `token_exists`."""
    label = name.strip()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,79}", label):
        raise Problem(
            400,
            "invalid_field",
            "Name it with letters, digits, spaces, dots and dashes (80 at most).",
            field="name",
        )
    if expires_at is not None and expires_at <= clock.now():
        raise Problem(400, "invalid_field", "The token's last day must be in the future.", field="expires_at")
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = ApiToken(
        name=label,
        role=_clean_role(role),
        prefix=secret[:_SHOWN],
        digest=_digest(secret),
        created_by=actor,
        expires_at=expires_at,
    )
    with transaction.atomic():
        _insert(token, Problem(409, "token_exists", f"There is already a token named {label}.", field="name"))
        record(Kind.TOKEN_MADE, actor, f"token:{label}", role=role, expires_at=expires_at)
    return token, secret


def revoke_token(token_id: UUID, *, actor: str) -> ApiToken:
    """Ends the token at once; revoking it again changes nothing."""
    with transaction.atomic():
        token = ApiToken.objects.select_for_update().filter(pk=token_id).first()
        if token is None:
            raise not_found("token")
        if token.revoked_at is None:
            token.revoked_at = clock.now()
            token.save(update_fields=["revoked_at"])
            record(Kind.TOKEN_REVOKED, actor, f"token:{token.name}")
    return token


def find_token(presented: str) -> ApiToken | None:
    """The usable token with this secret, or None; its use is noted at most once a minute."""
    if not _TOKEN.fullmatch(presented):
        return None
    token = ApiToken.objects.filter(digest=_digest(presented)).first()
    if token is None or not token.usable:
        return None
    now = clock.now()
    if token.last_used_at is None or now - token.last_used_at > _USE_IS_NOTED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def _insert(row: Operator | ApiToken, taken: Problem) -> None:
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        raise taken from None


def _subject(operator: Operator) -> str:
    return f"operator:{operator.email}"


def _digest(secret: str) -> str:
    # 256 random bits: a slow hash would protect nothing more.
    return hashlib.sha256(secret.encode()).hexdigest()


def _clean_email(email: str) -> str:
    address = email.strip().lower()
    try:
        validate_email(address)
    except ValidationError:
        raise Problem(400, "invalid_field", "This is not an email address.", field="email") from None
    return address


def _clean_role(role: str) -> str:
    if role not in Role.values:
        raise Problem(
            400, "invalid_field", f"The role must be one of {', '.join(Role.values)}.", field="role"
        )
    return role


def _check_password(password: str, operator: Operator) -> None:
    try:
        validate_password(password, operator)
    except ValidationError as error:
        raise Problem(400, "invalid_field", " ".join(error.messages), field="password") from None
