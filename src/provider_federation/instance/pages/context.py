"""What every page's template knows."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

_MENU = {
    "lead": "leads", "convert": "leads", "eligible": "leads", "not_eligible": "leads", "dispute": "leads", "disputes": "usage", "draft": "billing",
    "invoice": "invoices", "send": "invoices", "void": "invoices", "person_add": "people", "person_role": "people",
    "person_password": "people", "person_activate": "people", "person_deactivate": "people",
    "federation_policy": "federation", "invite": "federation", "close_enrolment": "federation",
    "revoke_key": "federation", "reset_ratchet": "federation",
}  # fmt: skip


def instance(request: HttpRequest) -> dict[str, str]:
    """Django's context processor: the instance's title, and which entry of the menu this page belongs to."""
    match = request.resolver_match
    name = (match.url_name or "") if match is not None else ""
    return {"instance_title": settings.INSTANCE_TITLE, "here": _MENU.get(name, name)}
