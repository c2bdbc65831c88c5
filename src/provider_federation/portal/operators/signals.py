"""What allauth does (signing in and out, passwords, second factors) reaches the audit log."""

from __future__ import annotations

from typing import Any

from allauth.account.signals import password_changed
from allauth.mfa.signals import authenticator_added, authenticator_removed, authenticator_reset
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver

from provider_federation.portal.audit.services import Kind, record
from provider_federation.portal.operators.models import Operator
from provider_federation.portal.operators.services import actor_of


def _note(kind: Kind, user: Any, **facts: Any) -> None:
    if isinstance(user, Operator):
        record(kind, actor_of(user), actor_of(user), **facts)


@receiver(user_logged_in)
def _signed_in(user: Any, **_: Any) -> None:
    _note(Kind.SIGNED_IN, user)


@receiver(user_logged_out)
def _signed_out(user: Any, **_: Any) -> None:
    _note(Kind.SIGNED_OUT, user)


@receiver(user_login_failed)
def _sign_in_failed(credentials: dict[str, Any], **_: Any) -> None:
    # The address was typed by a stranger: it is named only when it is an operator's.
    email = str(credentials.get("email", "")).strip().lower()
    known = Operator.objects.filter(email=email).exists()
    record(Kind.SIGN_IN_FAILED, "anonymous", f"operator:{email}" if known else "operator:unknown")


@receiver(password_changed)
def _password_changed(user: Any, **_: Any) -> None:
    _note(Kind.PASSWORD_CHANGED, user)


@receiver([authenticator_added, authenticator_removed, authenticator_reset])
def _mfa_changed(user: Any, authenticator: Any, **_: Any) -> None:
    _note(Kind.MFA_CHANGED, user, factor=str(authenticator.type))
