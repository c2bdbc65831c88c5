"""The federation page, and what its owner decides there: enrolment, keys, the ratchet, the provider's policy."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from provider_federation.instance.federation import services
from provider_federation.instance.federation.queries import key_facts, ratcheted_since
from provider_federation.instance.invoicing.services import (
    provider_policy,
    set_provider_policy,
    used_today,
)
from provider_federation.instance.pages.access import page, signed_in
from provider_federation.instance.pages.banner import federation_banner
from provider_federation.instance.pages.forms import InviteForm, PolicyForm
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import not_found

_log = get_logger(__name__)


@page("billing.read")
def federation(request: HttpRequest) -> HttpResponse:
    """The banner with its steps open; for owners the keys, enrolment and policy."""
    context = {
        "banner": federation_banner(),
        "keys": key_facts(),
        "instance_name": settings.INSTANCE_NAME,
        "org_id": settings.INSTANCE_ORG_ID,
        "skew": settings.FEDERATION.policy.skew,
        "policy": provider_policy(),
        "used": used_today(),
        "invitation": services.open_invitation(),
        "ratcheted": ratcheted_since(),
    }
    return render(request, "instance/federation.html", context)


@page("instance.manage", writes=True)
def policy(request: HttpRequest) -> HttpResponse:
    form = PolicyForm(
        request.POST if request.method == "POST" else None, initial=PolicyForm.initial_of(provider_policy())
    )
    if request.method == "POST" and form.is_valid():
        set_provider_policy(**form.changes())
        _log.warning("provider policy changed", by=signed_in(request).pk, frozen=form.cleaned_data["frozen"])
        messages.success(request, "Saved; it holds from the provider's next call on.")
        return redirect("federation")
    context = {
        "form": form,
        "title": "What the provider may do",
        "intro": "Reading stays possible unless you freeze it. What the provider may not do is refused and changes nothing.",
        "button": "Save",
        "back_url": reverse("federation"),
    }
    return render(request, "instance/form.html", context, status=422 if form.errors else 200)


@page("instance.manage", writes=True)
def invite(request: HttpRequest) -> HttpResponse:
    """The code is shown once, on the answer to this form."""
    form = InviteForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        invitation, code = services.open_enrolment(minutes=int(data["minutes"]), scope=data["scope"])
        _log.warning("enrolment opened", by=signed_in(request).pk)
        return render(request, "instance/invitation.html", {"invitation": invitation, "code": code})
    context = {
        "form": form,
        "title": "Let a portal enrol",
        "intro": "You get a code for your provider, good once. With it both sides exchange their public keys.",
        "button": "Make a code",
        "back_url": reverse("federation"),
    }
    return render(request, "instance/form.html", context, status=422 if form.errors else 200)


@page("instance.manage", writes=True)
def close_enrolment(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        services.close_enrolment()
        messages.success(request, "Enrolment is closed; the code is good for nothing.")
        return redirect("federation")
    return _ask(request, "Close enrolment?", "The code that you made cannot be used any more.", "Close")


@page("instance.manage", writes=True)
def revoke_key(request: HttpRequest) -> HttpResponse:
    """The key is named by `key`: in the address of the question, and again in the form."""
    key_id = (request.POST if request.method == "POST" else request.GET).get("key", "")
    if "\0" in key_id:  # PostgreSQL cannot be asked for it
        raise not_found("key")
    if request.method == "POST":
        services.revoke_key(key_id)
        _log.warning("key revoked by owner", key_id=key_id, by=signed_in(request).pk)
        messages.success(request, f"{key_id} is revoked: nothing that it signs is accepted any more.")
        return redirect("federation")
    if not any(fact.key.id == key_id for fact in key_facts()):
        raise not_found("key")
    sentence = "Nothing that it signs is accepted any more, from now on. This cannot be undone; a new key can be paired."
    return _ask(request, f"Revoke {key_id}?", sentence, "Revoke", danger=True, fields={"key": key_id})


@page("instance.manage", writes=True)
def reset_ratchet(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        services.reset_ratchet()
        _log.warning("ratchet reset by owner", by=signed_in(request).pk)
        messages.success(
            request, "Older signatures are accepted again, until the provider's next call by v2."
        )
        return redirect("federation")
    sentence = (
        "Your provider has spoken v2, so older signatures are refused. Reset this only when the provider's portal had "
        "to go back to an older version: the older signatures do not protect the content of a call."
    )
    return _ask(request, "Accept older signatures again?", sentence, "Accept them again", danger=True)


def _ask(
    request: HttpRequest,
    title: str,
    sentence: str,
    button: str,
    *,
    danger: bool = False,
    fields: dict[str, str] | None = None,
) -> HttpResponse:
    context = {
        "title": title,
        "sentences": [sentence],
        "button": button,
        "danger": danger,
        "fields": fields or {},
        "back_url": reverse("federation"),
    }
    return render(request, "instance/confirm.html", context)
