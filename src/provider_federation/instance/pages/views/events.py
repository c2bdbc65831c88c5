"""What Stripe told this instance, and what a person can do about events that did not get through."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse

from provider_federation.instance.invoicing.models import EventState, StripeEvent
from provider_federation.instance.invoicing.services import apply_pending, retry_parked, sweep_invoices
from provider_federation.instance.pages.access import page, signed_in
from provider_federation.instance.pages.forms import EventFilter
from provider_federation.instance.pages.listing import make_listing
from provider_federation.kit.logs import get_logger

_APPLIED_AT_ONCE = 100
_COLUMNS = {"received": "received_at", "kind": "type", "state": "state", "tries": "attempts"}
_log = get_logger(__name__)


@page("billing.read")
def events(request: HttpRequest) -> HttpResponse:
    form = EventFilter(request.GET)
    listing = make_listing(_filtered(form), request.GET, _COLUMNS, default="-received")
    return render(request, "instance/events.html", {"form": form, "listing": listing})


@page("billing.manage", writes=True)
def retry(request: HttpRequest, pk: int) -> HttpResponse:
    """Send one parked event round again."""
    event = get_object_or_404(StripeEvent.objects.defer("payload"), pk=pk)
    if request.method != "POST":
        return _ask(request, f"Try {event.event_id} again?", _FETCHED, "Try again")
    if retry_parked(event.pk):
        _log.info("stripe event sent round again", event_id=event.event_id, by=signed_in(request).pk)
        _tell_applied(request)
    return redirect("stripe_events")


@page("billing.manage", writes=True)
def apply_events(request: HttpRequest) -> HttpResponse:
    """Try all stuck Stripe events again. Each is applied once, however often this is pressed."""
    if request.method != "POST":
        return _ask(request, "Try the stuck events again?", _FETCHED, "Try again")
    retry_parked()
    _log.info("stuck stripe events sent round again", by=signed_in(request).pk)
    _tell_applied(request)
    return redirect("alerts")


@page("billing.manage", writes=True)
def sweep(request: HttpRequest) -> HttpResponse:
    """Find what a lost event hid."""
    if request.method != "POST":
        sentence = (
            "The invoices of the last weeks, and older ones that are not settled, are compared with ours."
        )
        return _ask(request, "Look through the Stripe account?", sentence, "Look now")
    looked, changed = sweep_invoices()
    messages.success(request, f"{looked} invoices looked at, {changed} changed here.")
    return redirect("stripe_events")


_FETCHED = "Each event's invoice is fetched from Stripe as it stands now, and brought in here."


def _tell_applied(request: HttpRequest) -> None:
    applied, waiting = apply_pending(limit=_APPLIED_AT_ONCE)
    tell = messages.warning if waiting else messages.success
    tell(request, f"{applied} applied, {waiting} not yet.")


def _filtered(form: EventFilter) -> QuerySet[StripeEvent]:
    rows = StripeEvent.objects.defer("payload")
    state = form.cleaned_data["state"] if form.is_valid() else ""
    return rows.filter(state=state) if state in EventState.values else rows


def _ask(request: HttpRequest, title: str, sentence: str, button: str) -> HttpResponse:
    context = {
        "title": title,
        "sentences": [sentence],
        "button": button,
        "back_url": reverse("stripe_events"),
    }
    return render(request, "instance/confirm.html", context)
