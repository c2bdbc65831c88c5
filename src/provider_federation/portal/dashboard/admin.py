"""What Django's admin shows beside the pages: the jobs, to look at and nothing else."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from procrastinate.contrib.django.models import ProcrastinateJob
from unfold.admin import ModelAdmin


class JobAdmin(ModelAdmin):  # type: ignore[misc]  # Unfold has no types
    """The queue as it is. Arguments hold ids only; nothing in here can be added, changed or deleted."""

    list_display = ("id", "task_name", "status", "queue_name", "attempts", "scheduled_at")
    list_filter = ("status", "queue_name")
    search_fields = ("task_name",)
    ordering = ("-id",)
    show_full_result_count = False

    def has_add_permission(self, _request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, *_: Any) -> bool:
        return False

    def has_delete_permission(self, _request: HttpRequest, *_: Any) -> bool:
        return False


def settle() -> None:
    """Take out of the admin what could change an operator's sign-in past the services and the audit log."""
    from allauth.account.models import EmailAddress
    from allauth.mfa.models import Authenticator
    from django.contrib.auth.models import Group

    for model in (Group, EmailAddress, Authenticator, ProcrastinateJob):
        if admin.site.is_registered(model):
            admin.site.unregister(model)
    admin.site.register(ProcrastinateJob, JobAdmin)
