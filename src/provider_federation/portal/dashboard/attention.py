"""What needs a person: one list over every room, the worst first. The pages behind it tell the rest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Q
from django.urls import reverse

from provider_federation.kit import clock
from provider_federation.money import format_amount
from provider_federation.money.period import month_name
from provider_federation.portal.billing_runs.models import BillingRun, ItemState
from provider_federation.portal.dashboard.modes import misfits, mode_fits
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.fleet.models import CallStatus, FleetRun
from provider_federation.portal.receivables.filed import coverage
from provider_federation.portal.receivables.models import DisputeState, LeadDispute
from provider_federation.portal.receivables.outstanding import ages
from provider_federation.portal.reconciliation.models import ReconciliationReport, ReportStatus
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
        _plan_to_approve(),
        _overdue(),
        _disputed(),
        _unheard(),
        _differing(),
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
    names = _named([f"{one.instance} {month_name(one.period)}" for one in held[:_NAMED]], count)
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


def _plan_to_approve() -> Item | None:
    """The newest run with something to bill that waits to be approved, or approved waits to be billed."""
    waiting = BillingRun.objects.filter(status__in=("planned", "approved"), items__state=ItemState.READY)
    run = waiting.order_by("-created_at").first()
    if run is None:
        return None
    waits = "waits for approval" if run.status == "planned" else "is approved and not billed yet"
    title, text = f"The billing run of {month_name(run.period)} {waits}", "Nobody is billed before that."
    return Item("warn", "play_circle", title, text, reverse("billing-run", args=[run.pk]))


def _overdue() -> Item | None:
    sums = [(one.overdue, one.currency) for one in ages() if one.overdue]
    if not sums:
        return None
    title = f"{' and '.join(format_amount(*one) for one in sums)} is overdue"
    text = "Clients are reminded by themselves; see who owes how long."
    return Item("warn", "payments", title, text, f"{reverse('receivables')}?only=overdue")


def _disputed() -> Item | None:
    count = LeadDispute.objects.filter(state=DisputeState.OPEN).count()
    if not count:
        return None
    title = _number(count, "lead dispute waits for a decision", "lead disputes wait for a decision")
    text = "Accepting makes a credit note; rejecting changes no amount."
    return Item("warn", "gavel", title, text, f"{reverse('lead-disputes')}?state=open")


def _unheard() -> Item | None:
    """Clients whose disputes cannot be read, or who cannot be told what was decided."""
    heard = coverage()
    count = heard.failing_count + heard.untold_failing
    if not count:
        return None
    title = _number(count, "exchange about disputes fails", "exchanges about disputes fail")
    names = _named([str(one.instance) for one in heard.failing[:_NAMED]], heard.failing_count)
    text = names or "A decision could not be told to its client yet; it is tried again."
    return Item("warn", "sms_failed", title, text, reverse("lead-disputes"))


def _differing() -> Item | None:
    """What the newest finished reconciliation of all clients found and nobody has repaired."""
    finished = ReconciliationReport.objects.filter(status=ReportStatus.DONE, client_org_id="")
    report = finished.order_by("-created_at").first()
    count = report.rows.filter(repaired_at=None).count() if report else 0
    if report is None or not count:
        return None
    title = _number(count, "difference between the books", "differences between the books")
    text = f"Found by the reconciliation of {month_name(report.period)}."
    return Item("warn", "balance", title, text, reverse("reconciliation", args=[report.pk]))


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
