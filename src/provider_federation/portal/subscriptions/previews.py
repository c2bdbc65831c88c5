"""What a change of a subscription would cost, now and next, before anybody is bound to it.

A preview carries a token: the amounts, the second from which Stripe prorates, and what the subscription was
when it was made, under our signature. The change is carried out with exactly these, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.core import signing

from provider_federation.kit import clock
from provider_federation.kit.problem import Problem
from provider_federation.money.plans import Plan, find_plan
from provider_federation.portal.subscriptions.account import price_of, provider_account
from provider_federation.portal.subscriptions.customers import known_living_customer
from provider_federation.portal.subscriptions.models import (
    WAITING,
    ChangeKind,
    Proration,
    Status,
    Subscription,
    SubscriptionChange,
)
from provider_federation.stripe_account import StripeInvoice

_SALT = "subscriptions.preview"


@dataclass(frozen=True)
class PreviewLine:
    """One line of the next invoice; a credit is negative."""

    description: str
    amount_cents: int
    period_start: datetime | None
    period_end: datetime | None


@dataclass(frozen=True)
class Preview:
    """What a change of plan costs. Amounts in minor units of `currency`.

    `amount_now_cents` is charged when the change is carried out (0 when nothing is), `total_now_cents` is
    that invoice's total, below 0 when a credit is left over for later. `amount_next_cents` is the renewal
    after it, at `next_at` (None when there is none). `effective_at` is when the plan is in force once it is
    paid. `tax_now_cents` and `tax_next_cents` are the tax inside of both, as Stripe reckoned it.
    `lines` are without tax; `lines_now`: of what is charged now, else of the renewal.
    """

    from_plan: str
    to_plan: str
    direction: str
    proration: str
    proration_date: datetime
    currency: str
    amount_now_cents: int
    total_now_cents: int
    amount_next_cents: int
    next_at: datetime | None
    effective_at: datetime
    expires_at: datetime
    tax_now_cents: int
    tax_next_cents: int
    lines: tuple[PreviewLine, ...]
    lines_now: bool
    token: str = ""


@dataclass(frozen=True)
class Wish:
    """What somebody asks of a subscription: a plan, and how it is prorated."""

    plan: Plan
    proration: Proration

    @property
    def now(self) -> bool:
        return self.proration != Proration.AT_PERIOD_END

    @property
    def kind(self) -> ChangeKind:
        return ChangeKind.PLAN if self.plan.fee_cents else ChangeKind.CANCEL


def wish_of(row: Subscription, plan_code: str, proration: str = "") -> Wish:
    """The plan, prorated as asked, else as the settings say for its direction. From BASE there is nothing to
    prorate, and no paid period to wait for.
    """
    plan = find_plan(plan_code)
    if row.stripe_subscription_id is None:
        return Wish(plan, Proration.ALWAYS_INVOICE)
    policy = settings.UPGRADE_PRORATION if plan.fee_cents > row.fee_cents else settings.DOWNGRADE_PRORATION
    return Wish(plan, Proration(proration or policy))


def preview_change(row: Subscription, wish: Wish, *, at: datetime | None = None) -> Preview:
    """What Stripe would bill, prorated from `at` (now). Raises `StripeFailed`. Nothing is changed."""
    moment = (at or clock.now()).replace(microsecond=0)
    if row.stripe_subscription_id is None:
        now, following = _of_first(row, wish.plan)
    elif wish.kind == ChangeKind.CANCEL:
        now, following = _of_cancellation(row, wish, moment), _NOTHING
    else:
        now, following = _of_change(row, wish, moment)
    preview = Preview(
        from_plan=row.plan,
        to_plan=wish.plan.code,
        direction="upgrade" if wish.plan.fee_cents > row.fee_cents else "downgrade",
        proration=wish.proration,
        proration_date=moment,
        currency=row.currency,
        amount_now_cents=now.due,
        total_now_cents=now.total,
        amount_next_cents=following.due,
        next_at=following.at,
        effective_at=moment if wish.now else row.current_period_end or moment,
        expires_at=clock.now() + timedelta(seconds=settings.PREVIEW_SECONDS),
        tax_now_cents=now.tax,
        tax_next_cents=following.tax,
        lines=now.lines or following.lines,
        lines_now=bool(now.lines),
    )
    return _sealed(row, preview)


def check_preview(row: Subscription, wish: Wish, token: str) -> Preview:
    """The preview behind the token, made anew from the same second on, when nothing has changed since.

    Problem 400 `bad_preview` (not ours, or of another change), 409 `preview_stale` (too old, or the
    subscription or what it would cost is another by now).
    """
    given = _opened(token)
    if (given["s"], given["p"], given["b"]) != (str(row.pk), wish.plan.code, wish.proration):
        raise Problem(
            400, "bad_preview", "This preview is of another change; preview the change that you want."
        )
    stale = Problem(409, "preview_stale", "The subscription or its price changed since; preview it again.")
    if clock.timestamp() > given["e"] or given["f"] != _facts(row):
        raise stale
    anew = preview_change(row, wish, at=datetime.fromtimestamp(given["d"], UTC))
    if [anew.amount_now_cents, anew.total_now_cents, anew.amount_next_cents] != given["a"]:
        raise stale
    return anew


def proration_date_of(token: str) -> datetime:
    """From which second the preview prorates. Problem 400 `bad_preview`."""
    return datetime.fromtimestamp(_opened(token)["d"], UTC)


@dataclass(frozen=True)
class _Bill:
    due: int
    total: int
    at: datetime | None
    lines: tuple[PreviewLine, ...] = ()
    tax: int = 0


_NOTHING = _Bill(0, 0, None)


def _of_change(row: Subscription, wish: Wish, moment: datetime) -> tuple[_Bill, _Bill]:
    stripe_id, item = str(row.stripe_subscription_id), row.snapshot["items"][0]
    items = [{"id": item, "price": price_of(wish.plan.code)}]
    if wish.proration == Proration.ALWAYS_INVOICE and row.status != Status.TRIALING:
        details = {"items": items, "proration_behavior": wish.proration, "proration_date": _seconds(moment)}
        now = _billed(provider_account().preview_change(stripe_id, details))
        renewal = provider_account().preview_change(stripe_id, {"items": items, "proration_behavior": "none"})
        return now, _Bill(renewal.total, renewal.total, row.current_period_end, tax=renewal.tax)
    details = {"items": items, "proration_behavior": "none"}
    if wish.proration == Proration.CREATE_PRORATIONS:
        details |= {"proration_behavior": wish.proration, "proration_date": _seconds(moment)}
    following = _billed(provider_account().preview_change(stripe_id, details))
    return _NOTHING, replace(following, at=row.current_period_end)


def _of_cancellation(row: Subscription, wish: Wish, moment: datetime) -> _Bill:
    if wish.proration not in {Proration.ALWAYS_INVOICE, Proration.CREATE_PRORATIONS}:
        return _NOTHING
    details: Mapping[str, Any] = {
        "cancel_now": True,
        "proration_behavior": "always_invoice",
        "proration_date": _seconds(moment),
    }
    return _billed(provider_account().preview_change(str(row.stripe_subscription_id), details))


def _of_first(row: Subscription, plan: Plan) -> tuple[_Bill, _Bill]:
    """From BASE there is no subscription to change: Stripe previews a new one, and the month after costs the
    same again.
    """
    invoice = provider_account().preview_subscription(
        price_of(plan.code),
        customer_id=known_living_customer(row.instance),
        tax_rates=settings.PROVIDER_STRIPE_TAX_RATES,
    )
    renews = max((line.period_end for line in invoice.lines if line.period_end), default=None)
    return _billed(invoice), _Bill(invoice.total, invoice.total, renews, tax=invoice.tax)


def _billed(invoice: StripeInvoice) -> _Bill:
    lines = tuple(
        PreviewLine(line.description or "", line.amount, line.period_start, line.period_end)
        for line in invoice.lines
    )
    return _Bill(invoice.amount_due, invoice.total, None, lines, invoice.tax)


def _facts(row: Subscription) -> list[Any]:
    """What a preview rests on; another value of any of these makes it stale."""
    waiting = SubscriptionChange.objects.filter(subscription=row, state__in=WAITING).first()
    return [
        row.status,
        row.plan,
        row.stripe_price_id,
        row.current_period_end.isoformat() if row.current_period_end else "",
        row.cancel_at_period_end,
        str(waiting.pk) if waiting else "",
    ]


def _sealed(row: Subscription, preview: Preview) -> Preview:
    payload = {
        "s": str(row.pk),
        "p": preview.to_plan,
        "b": preview.proration,
        "d": _seconds(preview.proration_date),
        "e": _seconds(preview.expires_at),
        "a": [preview.amount_now_cents, preview.total_now_cents, preview.amount_next_cents],
        "f": _facts(row),
    }
    return Preview(**{**preview.__dict__, "token": signing.Signer(salt=_SALT).sign_object(payload)})


def _opened(token: str) -> dict[str, Any]:
    try:
        payload = signing.Signer(salt=_SALT).unsign_object(token)
    except (signing.BadSignature, ValueError):
        raise Problem(400, "bad_preview", "This is no preview of ours, or it was altered.") from None
    return dict(payload)


def _seconds(at: datetime) -> int:
    return int(at.timestamp())
