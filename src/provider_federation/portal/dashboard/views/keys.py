"""One instance's keys: pairing by code, a pair for its environment, rotation, revocation, the ratchet."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from provider_federation.portal.dashboard.forms import CodeForm, ConfirmKeyForm
from provider_federation.portal.dashboard.modes import mode_fit
from provider_federation.portal.dashboard.pages import actor, page, problems_said, requires, seen_version
from provider_federation.portal.directory import services
from provider_federation.portal.directory.models import Instance, InstanceKey
from provider_federation.portal.directory.queries import current_key, pending_key

_MOST_SHOWN = 30


@require_GET
@requires("instances.read")
def keys(request: HttpRequest, instance_id: uuid.UUID) -> HttpResponse:
    return _page(request, get_object_or_404(Instance, pk=instance_id))


@require_POST
@requires("instances.manage")
def enrol(request: HttpRequest, instance_id: uuid.UUID) -> HttpResponse:
    instance = get_object_or_404(Instance, pk=instance_id)
    form = CodeForm(request.POST)
    if not form.is_valid():
        return _page(request, instance, code_form=form)
    code, version = form.cleaned_data["code"], form.cleaned_data["version"]
    return _do(
        request,
        instance_id,
        lambda: services.enrol_instance(instance.pk, version, code, actor=actor(request)),
        "Paired: the instance took a new key of ours, and we know the one it answers with.",
    )


@require_POST
@requires("instances.manage")
def make(request: HttpRequest, instance_id: uuid.UUID) -> HttpResponse:
    return _do(
        request,
        instance_id,
        lambda: services.make_key(instance_id, seen_version(request), actor=actor(request)),
        "A pair is made. It signs nothing until the instance has its public half.",
    )


@require_POST
@requires("instances.manage")
def confirm(request: HttpRequest, instance_id: uuid.UUID) -> HttpResponse:
    instance = get_object_or_404(Instance, pk=instance_id)
    form = ConfirmKeyForm(request.POST)
    if not form.is_valid():
        return _page(request, instance, confirm_form=form)
    version, told = form.cleaned_data["version"], form.response_key()
    return _do(
        request,
        instance_id,
        lambda: services.confirm_key(instance.pk, version, actor=actor(request), response_key=told),
        "The instance takes the new key; it is in use.",
    )


@require_POST
@requires("instances.manage")
def rotate(request: HttpRequest, instance_id: uuid.UUID) -> HttpResponse:
    return _do(
        request,
        instance_id,
        lambda: services.rotate_key(instance_id, seen_version(request), actor=actor(request)),
        "Rotated: the new key is in use, and the old one ends there within five minutes.",
    )


@require_POST
@requires("instances.manage")
def revoke(request: HttpRequest, instance_id: uuid.UUID, key: uuid.UUID) -> HttpResponse:
    return _do(
        request,
        instance_id,
        lambda: services.revoke_key(instance_id, seen_version(request), key, actor=actor(request)),
        "Revoked: this portal never signs with it again.",
    )


@require_POST
@requires("instances.manage")
def reset_ratchet(request: HttpRequest, instance_id: uuid.UUID) -> HttpResponse:
    return _do(
        request,
        instance_id,
        lambda: services.reset_ratchet(instance_id, seen_version(request), actor=actor(request)),
        "Legacy keys may sign for this instance again, until its next good check by v2.",
    )


def _do(request: HttpRequest, instance_id: uuid.UUID, work: Callable[[], Any], done: str) -> HttpResponse:
    with problems_said(request):
        work()
        messages.success(request, done)
    return redirect("instance-keys", instance_id)


def _page(request: HttpRequest, instance: Instance, **forms: Any) -> HttpResponse:
    pending = pending_key(instance)
    version = {"version": instance.version}
    return page(
        request,
        "keys",
        title="Keys",
        crumbs=[
            ("Instances", reverse("instances")),
            (str(instance), reverse("instance", args=[instance.pk])),
        ],
        subtitle="What this portal signs with for this instance, and what the instance answers with",
        instance=instance,
        fit=mode_fit(instance),
        key=current_key(instance),
        keys=instance.keys.all()[:_MOST_SHOWN],
        pending=pending,
        environment_line=_environment(pending) if pending else "",
        **{
            "code_form": CodeForm(initial=version),
            "confirm_form": ConfirmKeyForm(initial=version),
            **forms,
        },
    )


def _environment(pending: InstanceKey) -> str:
    """What the instance's owner adds: the public half only."""
    told = {"public_key": pending.public_key, "algorithm": pending.algorithm, "scope": pending.scope}
    return f"PROVIDER_KEYS_JSON='{json.dumps({pending.key_id: told})}'"
