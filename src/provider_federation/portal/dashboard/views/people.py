"""Operators and API tokens: for admins."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from provider_federation.portal.dashboard.forms import OperatorEditForm, OperatorForm, PasswordForm, TokenForm
from provider_federation.portal.dashboard.pages import (
    Column,
    Listing,
    actor,
    page,
    problems_at,
    problems_said,
    requires,
)
from provider_federation.portal.operators import services
from provider_federation.portal.operators.models import ApiToken, Operator

_COLUMNS = (
    Column("name", "Operator", "name"),
    Column("role", "Role", "role"),
    Column("state", "May sign in", "is_active"),
    Column("seen", "Last sign-in", "last_login"),
    Column("", ""),
)


def _crumbs() -> list[tuple[str, str]]:
    return [("Operators & tokens", reverse("operators"))]


@require_GET
@requires("operators.manage")
def operators(request: HttpRequest) -> HttpResponse:
    listing = Listing(request, Operator.objects.all(), _COLUMNS)
    tokens = ApiToken.objects.all()[:200]
    return page(request, "operators", title="Operators & tokens", listing=listing, tokens=tokens)


@require_http_methods(["GET", "POST"])
@requires("operators.manage")
def add_operator(request: HttpRequest) -> HttpResponse:
    form = OperatorForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with problems_at(form):
            made = services.add_operator(**form.cleaned_data, actor=actor(request))
            messages.success(request, f"{made.email} can sign in now.")
            return redirect("operators")
    return page(
        request,
        "form",
        title="Add an operator",
        crumbs=_crumbs(),
        form=form,
        button="Add operator",
        back=reverse("operators"),
    )


@require_http_methods(["GET", "POST"])
@requires("operators.manage")
def edit_operator(request: HttpRequest, operator_id: int) -> HttpResponse:
    operator = get_object_or_404(Operator, pk=operator_id)
    initial = {"name": operator.name, "role": operator.role, "is_active": operator.is_active}
    form = OperatorEditForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        with problems_at(form):
            services.change_operator(operator.pk, actor=actor(request), **form.cleaned_data)
            messages.success(request, f"{operator.email} was changed.")
            return redirect("operators")
    return page(
        request,
        "form",
        title=str(operator),
        subtitle=operator.email,
        crumbs=_crumbs(),
        form=form,
        button="Save",
        back=reverse("operators"),
        more=[("Set a new password", reverse("set-password", args=[operator.pk]))],
    )


@require_http_methods(["GET", "POST"])
@requires("operators.manage")
def set_password(request: HttpRequest, operator_id: int) -> HttpResponse:
    operator = get_object_or_404(Operator, pk=operator_id)
    form = PasswordForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with problems_at(form):
            services.set_password(operator.pk, form.cleaned_data["password"], actor=actor(request))
            messages.success(request, f"{operator.email} has a new password; hand it over safely.")
            return redirect("operators")
    return page(
        request,
        "form",
        title=f"New password for {operator}",
        crumbs=_crumbs(),
        form=form,
        button="Set password",
        back=reverse("operators"),
    )


@require_http_methods(["GET", "POST"])
@requires("operators.manage")
def add_token(request: HttpRequest) -> HttpResponse:
    form = TokenForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with problems_at(form):
            token, secret = services.create_token(
                name=form.cleaned_data["name"],
                role=form.cleaned_data["role"],
                actor=actor(request),
                expires_at=form.expires_at,
            )
            # Shown in the answer to the POST itself: no address leads to it again, and it is stored nowhere.
            return page(
                request, "token_made", title="The new token", crumbs=_crumbs(), token=token, secret=secret
            )
    return page(
        request,
        "form",
        title="Make an API token",
        crumbs=_crumbs(),
        form=form,
        button="Make token",
        back=reverse("operators"),
    )


@require_POST
@requires("operators.manage")
def revoke_token(request: HttpRequest, token_id: UUID) -> HttpResponse:
    with problems_said(request):
        token = services.revoke_token(token_id, actor=actor(request))
        messages.success(request, f"The token {token.name} no longer works.")
    return redirect("operators")
