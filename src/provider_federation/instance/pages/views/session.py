"""Signing in and out."""

from __future__ import annotations

from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.debug import sensitive_post_parameters

from provider_federation.instance.pages.access import page, told
from provider_federation.instance.pages.errors import method_page
from provider_federation.instance.pages.forms import SignInForm
from provider_federation.instance.pages.throttle import address_of, count_try, forget_tries, too_many
from provider_federation.instance.people.access import person_of
from provider_federation.kit.logs import get_logger

_REFUSED = "Email or password is not right."
_log = get_logger(__name__)


@sensitive_post_parameters("password")
@told
def sign_in(request: HttpRequest) -> HttpResponse:
    """The one page for people who are not signed in. One sentence for every wrong combination."""
    if request.method not in {"GET", "HEAD", "POST"}:
        return method_page(("GET", "HEAD", "POST"))
    wanted = _safe_next(request)
    if person_of(request) is not None:
        return redirect(wanted)
    form = SignInForm(request.POST if request.method == "POST" else None)
    waiting = 0
    if request.method == "POST" and form.is_valid():
        waiting = _try(request, form)
        if form.is_valid():
            return redirect(wanted)
    context = {"form": form, "next": wanted}
    response = render(request, "instance/sign_in.html", context, status=_status(request, waiting))
    if waiting:
        response.headers["Retry-After"] = str(waiting)
    return response


@page("billing.read", writes=True)
def sign_out(request: HttpRequest) -> HttpResponse:
    """GET asks, POST does: a link from elsewhere signs nobody out."""
    if request.method != "POST":
        return render(request, "instance/sign_out.html")
    logout(request)
    return redirect("sign_in")


def _try(request: HttpRequest, form: SignInForm) -> int:
    """Sign in, or put the reason into the form; how many seconds to wait, when that is the reason."""
    email, password = form.cleaned_data["email"], form.cleaned_data["password"]
    address = address_of(request)
    waiting = count_try(email, address)
    if waiting:
        form.add_error(None, too_many(waiting))
        _log.warning("sign-in held back", address=address)
        return waiting
    person = authenticate(request, username=email, password=password)
    if person is None:
        form.add_error(None, _REFUSED)
        _log.warning("sign-in refused", address=address)
        return 0
    forget_tries(email, address)
    login(request, person)  # a new session id, and a new CSRF token
    _log.info("signed in", person=person.pk)
    return 0


def _status(request: HttpRequest, waiting: int) -> int:
    if waiting:
        return 429
    return 422 if request.method == "POST" else 200


def _safe_next(request: HttpRequest) -> str:
    """Where to after the sign-in: a path of ours, never another host and never what only programs call."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    ours = url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
    if ours and wanted.startswith("/") and not wanted.startswith(("/api/", "/sign-")):
        return wanted
    return reverse("overview")
