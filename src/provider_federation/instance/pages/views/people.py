"""The owner's page of people, and everybody's own password."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters

from provider_federation.instance.pages.access import page, signed_in
from provider_federation.instance.pages.forms import (
    ChangePasswordForm,
    NewPasswordForm,
    NewPersonForm,
    RoleForm,
)
from provider_federation.instance.pages.throttle import address_of, count_try, forget_tries, too_many
from provider_federation.instance.people import services
from provider_federation.instance.people.models import Person
from provider_federation.kit.logs import get_logger
from provider_federation.kit.problem import Problem, not_found

_log = get_logger(__name__)


@page("instance.manage")
def people(request: HttpRequest) -> HttpResponse:
    return render(request, "instance/people.html", {"people": Person.objects.order_by("-is_active", "email")})


@sensitive_post_parameters("password")
@page("instance.manage", writes=True)
def add(request: HttpRequest) -> HttpResponse:
    form = NewPersonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid() and _add(request, form):
        return redirect("people")
    context = {"form": form, "title": "Add a person", "button": "Add", "back_url": reverse("people")}
    return render(request, "instance/form.html", context, status=422 if form.errors else 200)


@page("instance.manage", writes=True)
def role(request: HttpRequest, pk: int) -> HttpResponse:
    person = _get(pk)
    form = RoleForm(request.POST if request.method == "POST" else None, initial={"role": person.role})
    if request.method == "POST" and form.is_valid():
        services.set_role(person.email, form.cleaned_data["role"])
        _log.info("role changed", person=pk, role=form.cleaned_data["role"], by=signed_in(request).pk)
        messages.success(request, f"{person.email} has the role {form.cleaned_data['role']} now.")
        return redirect("people")
    context = {
        "form": form,
        "title": f"Role of {person}",
        "intro": "Owners do everything. Billing drafts, sends and voids invoices. Viewers only look.",
        "button": "Change role",
        "back_url": reverse("people"),
    }
    return render(request, "instance/form.html", context, status=422 if form.errors else 200)


@page("instance.manage", writes=True)
def active(request: HttpRequest, pk: int, *, wanted: bool) -> HttpResponse:
    person = _get(pk)
    if request.method == "POST":
        if pk == signed_in(request).pk and not wanted:
            raise Problem(409, "yourself", "You cannot deactivate yourself; another owner can.")
        services.set_active(person.email, active=wanted)
        _log.info("person changed", person=pk, active=wanted, by=signed_in(request).pk)
        messages.success(
            request, f"{person.email} {'can sign in again' if wanted else 'cannot sign in any more'}."
        )
        return redirect("people")
    context = {
        "title": f"{'Activate' if wanted else 'Deactivate'} {person}?",
        "sentences": [
            f"{person.email} can sign in again, with the password as it was." if wanted
            else f"{person.email} is signed out everywhere at once and cannot sign in. What they did stays."
        ],
        "button": "Activate" if wanted else "Deactivate",
        "danger": not wanted,
        "back_url": reverse("people"),
    }  # fmt: skip
    return render(request, "instance/confirm.html", context)


@sensitive_post_parameters("password", "again")
@page("instance.manage", writes=True)
def password(request: HttpRequest, pk: int) -> HttpResponse:
    """A new password for somebody else; their sessions end."""
    person = _get(pk)
    if pk == signed_in(request).pk:
        return redirect("account")
    form = NewPasswordForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid() and _set(form, person) is not None:
        _log.info("password set", person=pk, by=signed_in(request).pk)
        messages.success(request, f"{person.email} has a new password; hand it over in confidence.")
        return redirect("people")
    context = {
        "form": form,
        "title": f"New password for {person}",
        "intro": f"{person.email} is signed out everywhere.",
        "username": person.email,
        "button": "Set password",
        "back_url": reverse("people"),
    }
    return render(request, "instance/form.html", context, status=422 if form.errors else 200)


@sensitive_post_parameters("current", "password", "again")
@page("billing.read", writes=True)
def account(request: HttpRequest) -> HttpResponse:
    """One's own password; every other session of one's own ends."""
    person = signed_in(request)
    form = ChangePasswordForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid() and _is_current(request, form, person):
        changed = _set(form, person)
        if changed is not None:
            update_session_auth_hash(request, changed)
            messages.success(request, "Your password is changed; you are signed out everywhere else.")
            return redirect("account")
    return render(request, "instance/account.html", {"form": form}, status=422 if form.errors else 200)


def _add(request: HttpRequest, form: NewPersonForm) -> bool:
    given = form.cleaned_data
    try:
        person = services.add_person(
            given["email"], given["password"], name=given["name"].strip(), role=given["role"]
        )
    except Problem as problem:
        field = {"person_exists": "email", "weak_password": "password"}.get(problem.code)
        form.add_error(field, problem.message)
        return False
    _log.info("person added", person=person.pk, role=person.role, by=signed_in(request).pk)
    messages.success(request, f"{person.email} can sign in.")
    return True


def _set(form: NewPasswordForm, person: Person) -> Person | None:
    try:
        return services.set_password(person.email, form.cleaned_data["password"])
    except Problem as problem:
        form.add_error("password", problem.message)
        return None


def _is_current(request: HttpRequest, form: ChangePasswordForm, person: Person) -> bool:
    """Guessed here as slowly as at the sign-in."""
    address = address_of(request)
    waiting = count_try(person.email, address)
    if waiting:
        form.add_error(None, too_many(waiting))
    elif not person.check_password(form.cleaned_data["current"]):
        form.add_error("current", "This is not your current password.")
    else:
        forget_tries(person.email, address)
        return True
    return False


def _get(pk: int) -> Person:
    person = Person.objects.filter(pk=pk).first()
    if person is None:
        raise not_found("person")
    return person
