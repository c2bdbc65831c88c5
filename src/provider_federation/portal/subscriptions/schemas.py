"""What the subscription routes take and answer. Amounts are integers in the currency's minor unit."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Literal

from ninja import Field, Schema
from pydantic import AfterValidator, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel

from provider_federation.kit.web.api import Strict
from provider_federation.money import MoneyError, parse_decimal
from provider_federation.portal.directory.models import Instance
from provider_federation.portal.subscriptions.ai_terms import (
    MOST_CAP,
    AiTerms,
    TermsRow,
    TermsView,
    plain_markup,
)
from provider_federation.portal.subscriptions.models import (
    Entitlement,
    PlanChange,
    Subscription,
    SubscriptionChange,
)
from provider_federation.portal.subscriptions.previews import Preview
from provider_federation.portal.subscriptions.publishing import Coverage
from provider_federation.portal.subscriptions.queries import Page, Summary

_STRICT = ConfigDict(
    extra="forbid", alias_generator=to_camel, populate_by_name=False, str_strip_whitespace=True
)
PlanId = Literal["BASE", "PRO", "ELITE"]
ProrationBehavior = Literal["always_invoice", "create_prorations", "none", "at_period_end"]
PaymentMethodId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,128}$")]


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


Instant = Annotated[datetime, PlainSerializer(_iso, return_type=str)]


class BillingDetailsIn(Strict):
    """How the client is named on the provider's invoices."""

    model_config = _STRICT

    name: str = Field("", max_length=200)
    email: str = Field("", max_length=254, pattern=r"^([^@\s]+@[^@\s]+)?$")


class SubscribeIn(Strict):
    """Which client to which plan. There is no field for a price: the plan has it."""

    model_config = _STRICT

    client_org_id: str = Field(min_length=1, max_length=128)
    plan_id: PlanId
    payment_method_id: PaymentMethodId | None = None
    billing_details: BillingDetailsIn | None = None
    trial_days: Annotated[int, Field(strict=True, ge=0, le=730)] = 0


class PreviewIn(Strict):
    """A change to look at. Without `prorationBehavior` the settings' policy for the direction holds."""

    model_config = _STRICT

    plan_id: PlanId
    proration_behavior: ProrationBehavior | None = None


class ChangeIn(PreviewIn):
    """A change to carry out; `previewToken` binds it to the preview that it came with, `prorationDate` may
    repeat that preview's. `paymentMethodId` is for the way from BASE to a paid plan.
    """

    preview_token: str | None = Field(None, min_length=1, max_length=4096)
    proration_date: str | None = Field(None, min_length=1, max_length=40)
    payment_method_id: PaymentMethodId | None = None


def _markup(text: str) -> str:
    try:
        parse_decimal(text)
    except MoneyError as error:
        raise ValueError(error.message) from None
    return text


class AiTermsIn(Strict):
    """The cap a month in minor units of the client's currency and the markup as a fraction of the cost ("0.1" is
    ten percent), from the month `from` on; without it from the next month on.
    """

    model_config = _STRICT

    cap_cents: Annotated[int, Field(strict=True, ge=0, le=MOST_CAP)]
    markup: Annotated[str, Field(max_length=8), AfterValidator(_markup)]
    first_month: Annotated[str, Field(min_length=7, max_length=7)] | None = Field(None, alias="from")

    def terms(self) -> AiTerms:
        """As the service takes them."""
        return AiTerms(self.cap_cents, parse_decimal(self.markup))


class Out(Schema):
    """Base of every answer: snake_case here, camelCase on the wire."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class SubscriptionOut(Out):
    """One subscription. `hostedInvoiceUrl` is where an unpaid one is paid."""

    id: str
    client_org_id: str
    plan_id: str
    status: str
    fee_cents: int
    currency: str
    current_period_start: Instant | None
    current_period_end: Instant | None
    trial_end: Instant | None
    cancel_at_period_end: bool
    cancelled_at: Instant | None
    ended_at: Instant | None
    stripe_subscription_id: str | None
    hosted_invoice_url: str | None
    failure: str | None
    created_at: Instant

    @classmethod
    def of(cls, row: Subscription) -> SubscriptionOut:
        return cls(
            id=str(row.pk),
            client_org_id=row.instance.org_id,
            plan_id=row.plan,
            status=row.status,
            fee_cents=row.fee_cents,
            currency=row.currency,
            current_period_start=row.current_period_start,
            current_period_end=row.current_period_end,
            trial_end=row.trial_end,
            cancel_at_period_end=row.cancel_at_period_end,
            cancelled_at=row.cancelled_at,
            ended_at=row.ended_at,
            stripe_subscription_id=row.stripe_subscription_id,
            hosted_invoice_url=row.hosted_invoice_url or None,
            failure=row.failure or None,
            created_at=row.created_at,
        )


class ChangeOut(Out):
    """One change that was asked for; `effectiveAt` is when it is, or will be, in force."""

    id: str
    kind: str
    state: str
    from_plan_id: str
    to_plan_id: str
    proration_behavior: str | None
    proration_date: Instant | None
    amount_now_cents: int | None
    amount_next_cents: int | None
    effective_at: Instant | None
    requested_by: str
    failure: str | None
    created_at: Instant
    finished_at: Instant | None

    @classmethod
    def of(cls, change: SubscriptionChange) -> ChangeOut:
        return cls(
            id=str(change.pk),
            kind=change.kind,
            state=change.state,
            from_plan_id=change.from_plan,
            to_plan_id=change.to_plan,
            proration_behavior=change.proration or None,
            proration_date=change.proration_date,
            amount_now_cents=change.amount_now_cents,
            amount_next_cents=change.amount_next_cents,
            effective_at=change.effective_at,
            requested_by=change.requested_by,
            failure=change.failure or None,
            created_at=change.created_at,
            finished_at=change.finished_at,
        )


class PlanInForceOut(Out):
    """A plan and since when it is, or was, in force."""

    plan_id: str
    effective_at: Instant
    reason: str


class LimitsOut(Out):
    """A limit of null is unlimited."""

    leads: int | None
    users: int | None
    ai_credits: int | None


class EntitlementOut(Out):
    """What the client may use, and whether its instance has confirmed the newest version of it."""

    client_org_id: str
    version: int
    plan_id: str
    state: str
    limits: LimitsOut
    support: str
    valid_from: Instant
    grace_until: Instant | None
    acknowledged_version: int
    acknowledged_at: Instant | None
    acknowledged: bool
    last_code: str | None
    last_error: str | None

    @classmethod
    def of(cls, row: Entitlement, grace_until: datetime | None = None) -> EntitlementOut:
        return cls(
            client_org_id=row.instance.org_id,
            version=row.version,
            plan_id=row.plan,
            state=row.state,
            limits=LimitsOut(leads=row.leads, users=row.users, ai_credits=row.ai_credits),
            support=row.support,
            valid_from=row.valid_from,
            grace_until=grace_until,
            acknowledged_version=row.acknowledged_version,
            acknowledged_at=row.acknowledged_at,
            acknowledged=row.acknowledged,
            last_code=row.last_code or None,
            last_error=row.last_sentence or None,
        )


class CreatedOut(Out):
    ok: Literal[True] = True
    reused: bool
    subscription: SubscriptionOut


class ChangedOut(Out):
    """`change` is null when there was nothing to do, or when a new subscription was created."""

    ok: Literal[True] = True
    reused: bool
    subscription: SubscriptionOut
    change: ChangeOut | None


class DetailOut(Out):
    """One subscription with everything about it."""

    ok: Literal[True] = True
    subscription: SubscriptionOut
    pending_change: ChangeOut | None
    changes: list[ChangeOut]
    plan_history: list[PlanInForceOut]
    entitlement: EntitlementOut | None


class PreviewLineOut(Out):
    description: str
    amount_cents: int
    period_start: Instant | None
    period_end: Instant | None


class PreviewOut(Out):
    """What a change would cost. `previewToken` carries it out as it stands here, or not at all. Tax is
    inside of the amounts, as Stripe reckoned it.
    """

    from_plan_id: str
    to_plan_id: str
    direction: Literal["upgrade", "downgrade"]
    proration_behavior: str
    proration_date: Instant
    currency: str
    amount_now_cents: int
    total_now_cents: int
    amount_next_cents: int
    next_at: Instant | None
    effective_at: Instant
    expires_at: Instant
    tax_now_cents: int
    tax_next_cents: int
    lines: list[PreviewLineOut]
    preview_token: str

    @classmethod
    def of(cls, preview: Preview) -> PreviewOut:
        return cls(
            from_plan_id=preview.from_plan,
            to_plan_id=preview.to_plan,
            direction="upgrade" if preview.direction == "upgrade" else "downgrade",
            proration_behavior=preview.proration,
            proration_date=preview.proration_date,
            currency=preview.currency,
            amount_now_cents=preview.amount_now_cents,
            total_now_cents=preview.total_now_cents,
            amount_next_cents=preview.amount_next_cents,
            next_at=preview.next_at,
            effective_at=preview.effective_at,
            expires_at=preview.expires_at,
            tax_now_cents=preview.tax_now_cents,
            tax_next_cents=preview.tax_next_cents,
            lines=[PreviewLineOut(**line.__dict__) for line in preview.lines],
            preview_token=preview.token,
        )


class PreviewedOut(Out):
    ok: Literal[True] = True
    preview: PreviewOut


class MoneyOut(Out):
    currency: str
    amount_cents: int


class SummaryOut(Out):
    """Over every subscription there is, whatever page or filter is shown."""

    total: int
    by_plan: dict[str, int]
    by_status: dict[str, int]
    cancelling: int
    mrr: list[MoneyOut]

    @classmethod
    def of(cls, summary: Summary) -> SummaryOut:
        mrr = [MoneyOut(currency=one, amount_cents=cents) for one, cents in summary.mrr_cents.items()]
        return cls(
            total=summary.total,
            by_plan=summary.by_plan,
            by_status=summary.by_status,
            cancelling=summary.cancelling,
            mrr=mrr,
        )


class ListOut(Out):
    """A page, and the sums over every subscription there is."""

    ok: Literal[True] = True
    items: list[SubscriptionOut]
    next_cursor: str | None
    summary: SummaryOut

    @classmethod
    def of(cls, page: Page, summary: Summary) -> ListOut:
        items = [SubscriptionOut.of(row) for row in page.items]
        return cls(items=items, next_cursor=page.next_cursor, summary=SummaryOut.of(summary))


class EntitlementCoverageOut(Out):
    """How many instances confirmed the newest version, of how many that were told one."""

    acknowledged: int
    of: int
    complete: bool
    failing: int
    waiting_since: Instant | None

    @classmethod
    def made_of(cls, coverage: Coverage) -> EntitlementCoverageOut:
        return cls(
            acknowledged=coverage.acknowledged,
            of=coverage.of,
            complete=coverage.complete,
            failing=coverage.failing,
            waiting_since=coverage.waiting_since,
        )


class EntitlementsOut(Out):
    ok: Literal[True] = True
    items: list[EntitlementOut]
    next_cursor: str | None
    coverage: EntitlementCoverageOut


class PublishedOut(Out):
    ok: Literal[True] = True
    entitlement: EntitlementOut


class AiTermsRowOut(Out):
    """Terms and the first month that they price. `setBy` is null where an edit of the client set the cap;
    `superseded`: a later word took their place before they began, or before they ended.
    """

    cap_cents: int
    markup: str
    first_month: str = Field(serialization_alias="from")
    effective_at: Instant
    recorded_at: Instant | None
    set_by: str | None
    superseded: bool

    @classmethod
    def of(cls, row: TermsRow) -> AiTermsRowOut:
        change = row.change
        return cls(
            cap_cents=change.cap_cents,
            markup=plain_markup(change.markup),
            first_month=row.month.label,
            effective_at=change.effective_at,
            recorded_at=change.recorded_at,
            set_by=change.set_by or None,
            superseded=row.superseded,
        )


class AiTermsInForceOut(Out):
    """What prices the AI usage of the month that runs."""

    month: str
    cap_cents: int
    markup: str


class AiTermsOut(Out):
    """The terms of one client; `history` newest first, at most a hundred."""

    ok: Literal[True] = True
    client_org_id: str
    currency: str
    in_force: AiTermsInForceOut
    upcoming: list[AiTermsRowOut]
    history: list[AiTermsRowOut]

    @classmethod
    def of(cls, instance: Instance, view: TermsView) -> AiTermsOut:
        now = AiTermsInForceOut(
            month=view.month.label,
            cap_cents=view.in_force.cap_cents,
            markup=plain_markup(view.in_force.markup),
        )
        return cls(
            client_org_id=instance.org_id,
            currency=instance.currency,
            in_force=now,
            upcoming=[AiTermsRowOut.of(row) for row in view.upcoming],
            history=[AiTermsRowOut.of(row) for row in view.history],
        )


class AiTermsSetOut(Out):
    ok: Literal[True] = True
    reused: bool
    terms: AiTermsRowOut


def history_out(changes: Iterable[PlanChange]) -> list[PlanInForceOut]:
    """Newest first."""
    return [
        PlanInForceOut(plan_id=one.plan, effective_at=one.effective_at, reason=one.reason) for one in changes
    ]
