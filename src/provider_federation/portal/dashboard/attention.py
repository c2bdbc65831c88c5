"""What needs a person: one list over every room, the worst first. The pages behind it tell the rest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Q
from django.urls import reverse

from provider_federation.kit import clock
from provider_federation.portal.dashboard.modes import misfits, mode_fits
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.fleet.models import CallStatus, FleetRun
from provider_federation.portal.revenue.models import EventState, StripeEvent, UsageInvoice, UsageStatus
from provider_federation.portal.revenue.queries import open_alerts
from provider_federation.portal.subscriptions.models import Status, Subscription

_RECENT = timedelta(days=7)
_NAMED = 3
_MOST_ALERTS = 5


@dataclass(frozen=True)
class Item:
    """One line: `tone` is bad or warn, `href` where to see to it."""

    tone: str
    icon: str
    title: str
    text: str
    href: str


def attention() -> list[Item]:
    """Everything that waits for a person, the worst first; a fixed number of queries."""
    parts = (
        *_alerts(),
        _unreachable(),
        _held(),
        _parked(),
        _failed_runs(),
        _unfinished_invoices(),
        _past_due(),
        _misfits(),
    )
    items = [item for item in parts if item is not None]
    return sorted(items, key=lambda item: item.tone != "bad")


def _named(names: list[str], total: int) -> str:
    more = total - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _unreachable() -> Item | None:
    """A check or the last sync failed. Never checked is not failed."""
    failing = Instance.objects.filter(Q(check_ok=False) | Q(sync_state__failures__gt=0), enabled=True)
    count = failing.count()
    if not count:
        return None
    names = _named([str(one) for one in failing.order_by("name")[:_NAMED]], count)
    title = _number(count, "instance does not answer as it should", "instances do not answer as they should")
    return Item("bad", "cloud_off", title, names, f"{reverse('instances')}?health=failing")


def _held() -> Item | None:
    held = UsageInvoice.objects.filter(status=UsageStatus.HELD).select_related("instance")
    count = held.count()
    if not count:
        return None
    names = _named([f"{one.instance} {one.period}" for one in held[:_NAMED]], count)
    title = _number(count, "usage invoice is held for review", "usage invoices are held for review")
    return Item("bad", "pan_tool", title, names, f"{reverse('usage-invoices')}?status=held")


def _parked() -> Item | None:
    count = StripeEvent.objects.filter(state=EventState.PARKED).count()
    if not count:
        return None
    title = _number(count, "webhook event could not be applied", "webhook events could not be applied")
    text = "They failed too often and wait for a person."
    return Item("bad", "webhook", title, text, f"{reverse('webhooks')}?state=parked")


def _failed_runs() -> Item | None:
    failed = FleetRun.objects.filter(
        calls__status=CallStatus.FAILED, created_at__gte=clock.now() - _RECENT, status="done"
    ).distinct()
    count = failed.count()
    if not count:
        return None
    newest = failed.order_by("-created_at").first()
    assert newest is not None
    title = _number(count, "run of this week has failures", "runs of this week have failures")
    text = f"The newest: {newest.get_action_display()}. Retry what failed on its page."
    return Item(
        "warn", "sms_failed", title, text, reverse("run", args=[newest.pk]) if count == 1 else reverse("runs")
    )


def _unfinished_invoices() -> Item | None:
    """Placed long enough ago that Stripe should have answered."""
    stuck = UsageInvoice.objects.filter(status=UsageStatus.PLACING, attempts__gt=1)
    count = stuck.count()
    if not count:
        return None
    title = _number(
        count,
        "usage invoice is still on its way to Stripe",
        "usage invoices are still on their way to Stripe",
    )
    return Item(
        "warn",
        "hourglass_top",
        title,
        "They are tried again; see their last failure.",
        reverse("usage-invoices"),
    )


def _past_due() -> Item | None:
    late = Subscription.objects.filter(status__in=(Status.PAST_DUE, Status.UNPAID)).select_related("instance")
    count = late.count()
    if not count:
        return None
    names = _named([str(one.instance) for one in late[:_NAMED]], count)
    title = _number(count, "subscription is past due", "subscriptions are past due")
    return Item("warn", "credit_card_off", title, names, reverse("subscriptions"))


def _misfits() -> Item | None:
    fits = misfits(mode_fits(Instance.objects.filter(enabled=True).prefetch_related("keys")[:500]))
    if not fits:
        return None
    names = _named([str(fit.instance) for fit in fits[:_NAMED]], len(fits))
    title = _number(
        len(fits), "instance does not fit the signature mode", "instances do not fit the signature mode"
    )
    tone = "bad" if any(fit.tone == "bad" for fit in fits) else "warn"
    return Item(tone, "gpp_maybe", title, names, reverse("instances"))


def _alerts() -> list[Item]:
    found = open_alerts().order_by("-raised_at")[:_MOST_ALERTS]
    return [
        Item("bad", "notification_important", alert.message, alert.subject, reverse("webhooks"))
        for alert in found
    ]
