"""What we change of allauth: nobody signs up, nothing is mailed, and second factors are kept sealed."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.http import HttpRequest

from provider_federation.kit.secrets import SecretBox

SEALED_FOR = "mfa.Authenticator"


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """Operators are added by an admin; their address is taken as given."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002  allauth's signature
        return False

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:  # noqa: ARG002  allauth's signature
        """Allauth's own key begins with the Host header, whose port anybody may choose: each a fresh start."""
        return str(credentials.get("email", "")).strip().lower()

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """The portal sends no mail; what would be a notice is in the audit log."""


class MfaAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # allauth has no types
    """TOTP seeds and recovery seeds lie sealed in the database."""

    def encrypt(self, text: str) -> str:
        return SecretBox(settings.MASTER_KEYS).seal(text.encode(), SEALED_FOR)

    def decrypt(self, encrypted_text: str) -> str:
        return SecretBox(settings.MASTER_KEYS).open(encrypted_text, SEALED_FOR).decode()

    def get_totp_issuer(self) -> str:
        return "Provider Portal"
