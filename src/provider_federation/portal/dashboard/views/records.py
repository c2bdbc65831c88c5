"""The audit log."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from provider_federation.kit.problem import Problem
from provider_federation.portal.audit.kinds import Kind
from provider_federation.portal.audit.queries import EventPage, list_events
from provider_federation.portal.dashboard.pages import address, chosen, page, requires, say, words


@require_GET
@requires("audit.read")
def audit(request: HttpRequest) -> HttpResponse:
    """Newest first; the filters are exact, as they come from links on the page."""
    kinds = [kind.value for kind in Kind]
    filters = {"kind": chosen(request.GET, "kind", kinds), "actor": words(request.GET, "actor")}
    filters["subject"] = words(request.GET, "subject")
    try:
        events = list_events(
            kind=filters["kind"],
            actor=filters["actor"],
            subject=filters["subject"],
            cursor=request.GET.get("cursor", ""),
        )
    except Problem as problem:
        say(request, problem)
        events = EventPage([], None)
    older = address(request.GET, cursor=events.next_cursor) if events.next_cursor else ""
    return page(
        request,
        "audit",
        title="Audit log",
        subtitle="Who did what, in order. Nobody can change it.",
        events=events.items,
        older=older,
        kinds=kinds,
        filters=filters,
        filtered=any(filters.values()),
    )
