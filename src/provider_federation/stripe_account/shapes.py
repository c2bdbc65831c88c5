"""What we read of Stripe's objects, as frozen values. Amounts in minor units, currencies in capitals, times
aware UTC.

Each class reads a plain mapping (an answer of the API, or the object inside a webhook event). A required
field that is missing is a StripeFailed `bad_answer`, never a KeyError in the middle of a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from provider_federation.stripe_account.errors import StripeFailed

Values = Mapping[str, Any]


def instant(seconds: Any) -> datetime:
    """Seconds since 1970 as an instant in UTC."""
    return datetime.fromtimestamp(int(seconds), UTC)


def maybe_instant(seconds: Any) -> datetime | None:
    """The same, None for what has not happened."""
    return None if seconds is None else instant(seconds)


def expanded_id(value: Any) -> str | None:
    """An expandable field is an id or the object itself."""
    return value.get("id") if isinstance(value, Mapping) else value


def metadata_of(values: Values) -> Mapping[str, str]:
    """The object's metadata, empty when it has none."""
    return dict(values.get("metadata") or {})


class Shape:
    """The base of each: `read` takes a plain mapping."""

    @classmethod
    def read(cls, values: Values) -> Self:
        """The value inside Stripe's answer; StripeFailed `bad_answer` when it is not one."""
        try:
            return cls._read(values)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
            message = f"Stripe's answer is not a {cls.__name__}: {type(error).__name__} {error}"
            raise StripeFailed("bad_answer", message, outcome_unknown=True) from error

    @classmethod
    def _read(cls, values: Values) -> Self:
        raise TypeError(f"{cls.__name__} cannot be read from {type(values).__name__}")


@dataclass(frozen=True)
class StripeLine(Shape):
    """A line of an invoice."""

    id: str
    amount: int
    currency: str
    description: str | None
    metadata: Mapping[str, str]
    period_start: datetime | None = None
    period_end: datetime | None = None
    tax_on_top: int = 0

    @classmethod
    def _read(cls, values: Values) -> Self:
        period = values.get("period") or {}
        return cls(
            id=values["id"],
            amount=int(values["amount"]),
            currency=values["currency"].upper(),
            description=values.get("description"),
            metadata=metadata_of(values),
            period_start=maybe_instant(period.get("start")),
            period_end=maybe_instant(period.get("end")),
            tax_on_top=tax_of({"total_taxes": values.get("taxes")}, "exclusive"),
        )


@dataclass(frozen=True)
class StripePaid(Shape):
    """One payment of an invoice that arrived: when, how much, and whether it came through Stripe."""

    at: datetime
    amount: int
    through_stripe: bool

    @classmethod
    def _read(cls, values: Values) -> Self:
        payment = values.get("payment") or {}
        return cls(
            instant((values.get("status_transitions") or {}).get("paid_at") or values["created"]),
            int(values.get("amount_paid") or 0),
            payment.get("type") != "payment_record",
        )


@dataclass(frozen=True)
class StripeInvoice(Shape):
    """An invoice. `lines` are those in the answer (the first few); `has_more_lines` says that there are
    others.

    `paid_out_of_band`: marked as paid although (part of) the money never came through Stripe: `paid` is not
    cash. Of `amount_paid`, `amount_off_stripe` did not come through Stripe; credit notes before payment are
    `credited_unpaid`, after it `credited_paid`. `tax` is inside `total`; of it, `tax_on_top` was added to
    `subtotal`. `payments` is None where it was not asked for.
    """

    id: str
    number: str | None
    status: str
    currency: str
    amount_due: int
    amount_paid: int
    amount_remaining: int
    subtotal: int
    total: int
    hosted_invoice_url: str | None
    invoice_pdf: str | None
    customer_id: str | None
    subscription_id: str | None
    metadata: Mapping[str, str]
    paid_out_of_band: bool
    created: datetime
    due_date: datetime | None = None
    finalized_at: datetime | None = None
    paid_at: datetime | None = None
    voided_at: datetime | None = None
    marked_uncollectible_at: datetime | None = None
    billing_reason: str | None = None
    period_start: datetime | None = None
    period_end: datetime | None = None
    lines: tuple[StripeLine, ...] = ()
    has_more_lines: bool = False
    amount_off_stripe: int = 0
    credited_unpaid: int = 0
    credited_paid: int = 0
    tax: int = 0
    tax_on_top: int = 0
    payments: tuple[StripePaid, ...] | None = None

    @classmethod
    def _read(cls, values: Values) -> Self:
        lines = values.get("lines") or {}
        moments = values.get("status_transitions") or {}
        return cls(
            id=values["id"],
            number=values.get("number"),
            status=values["status"],
            currency=values["currency"].upper(),
            amount_due=int(values["amount_due"]),
            amount_paid=int(values["amount_paid"]),
            amount_remaining=int(values["amount_remaining"]),
            subtotal=int(values["subtotal"]),
            total=int(values["total"]),
            hosted_invoice_url=values.get("hosted_invoice_url"),
            invoice_pdf=values.get("invoice_pdf"),
            customer_id=expanded_id(values.get("customer")),
            subscription_id=_subscription_of(values),
            metadata=metadata_of(values),
            paid_out_of_band=bool(values.get("paid_out_of_band"))
            or bool(values.get("amount_paid_off_stripe")),
            created=instant(values["created"]),
            due_date=maybe_instant(values.get("due_date")),
            finalized_at=maybe_instant(moments.get("finalized_at")),
            paid_at=maybe_instant(moments.get("paid_at")),
            voided_at=maybe_instant(moments.get("voided_at")),
            marked_uncollectible_at=maybe_instant(moments.get("marked_uncollectible_at")),
            billing_reason=values.get("billing_reason"),
            period_start=maybe_instant(values.get("period_start")),
            period_end=maybe_instant(values.get("period_end")),
            lines=tuple(StripeLine.read(line) for line in lines.get("data") or ()),
            has_more_lines=bool(lines.get("has_more")),
            amount_off_stripe=int(values.get("amount_paid_off_stripe") or 0),
            credited_unpaid=int(values.get("pre_payment_credit_notes_amount") or 0),
            credited_paid=int(values.get("post_payment_credit_notes_amount") or 0),
            tax=tax_of(values),
            tax_on_top=tax_of(values, "exclusive"),
            payments=_payments_of(values),
        )


def _payments_of(invoice: Values) -> tuple[StripePaid, ...] | None:
    """Those that paid, oldest first."""
    given = invoice.get("payments")
    if given is None:
        return None
    paid = [StripePaid.read(one) for one in given["data"] if one["status"] == "paid"]
    return tuple(sorted(paid, key=lambda one: one.at))


def tax_of(values: Values, behavior: str | None = None) -> int:
    """The sum of Stripe's tax amounts, of all or of one behaviour (`exclusive` ones are added on top)."""
    taxes = values.get("total_taxes") or ()
    return sum(int(tax["amount"]) for tax in taxes if behavior in {None, tax["tax_behavior"]})


def _subscription_of(invoice: Values) -> str | None:
    """Since API 2025-03-31 the subscription stands under `parent`."""
    parent = invoice.get("parent") or {}
    return expanded_id((parent.get("subscription_details") or {}).get("subscription"))


@dataclass(frozen=True)
class StripeCustomer(Shape):
    """A customer of the account. `balance` below 0 is credit that the next invoice uses up."""

    id: str
    name: str | None
    email: str | None
    metadata: Mapping[str, str]
    created: datetime
    balance: int = 0
    default_payment_method: str | None = None
    deleted: bool = False

    @classmethod
    def _read(cls, values: Values) -> Self:
        settings = values.get("invoice_settings") or {}
        return cls(
            id=values["id"],
            name=values.get("name"),
            email=values.get("email"),
            metadata=metadata_of(values),
            created=instant(values.get("created") or 0),
            balance=int(values.get("balance") or 0),
            default_payment_method=expanded_id(settings.get("default_payment_method")),
            deleted=bool(values.get("deleted")),
        )


@dataclass(frozen=True)
class StripePrice(Shape):
    """A price of a product; `interval` None for a one-time price."""

    id: str
    product_id: str | None
    currency: str
    unit_amount: int | None
    interval: str | None
    lookup_key: str | None
    active: bool
    metadata: Mapping[str, str]

    @classmethod
    def _read(cls, values: Values) -> Self:
        return cls(
            id=values["id"],
            product_id=expanded_id(values.get("product")),
            currency=values["currency"].upper(),
            unit_amount=values.get("unit_amount"),
            interval=(values.get("recurring") or {}).get("interval"),
            lookup_key=values.get("lookup_key"),
            active=bool(values.get("active")),
            metadata=metadata_of(values),
        )


@dataclass(frozen=True)
class StripeSubscriptionItem(Shape):
    """One price of a subscription; its period stands here and not on the subscription."""

    id: str
    price: StripePrice
    quantity: int
    period_start: datetime
    period_end: datetime

    @classmethod
    def _read(cls, values: Values) -> Self:
        return cls(
            id=values["id"],
            price=StripePrice.read(values["price"]),
            quantity=int(values.get("quantity") or 1),
            period_start=instant(values["current_period_start"]),
            period_end=instant(values["current_period_end"]),
        )


@dataclass(frozen=True)
class StripeSubscription(Shape):
    """A subscription; `status` is Stripe's (`incomplete active past_due canceled` ...).

    `pending_price_ids` are set while a change waits for its payment, until `pending_until`; `schedule_id`
    names what changes it at the end of a period.
    """

    id: str
    status: str
    customer_id: str
    items: tuple[StripeSubscriptionItem, ...]
    cancel_at_period_end: bool
    latest_invoice_id: str | None
    metadata: Mapping[str, str]
    created: datetime
    currency: str
    start_date: datetime
    cancel_at: datetime | None = None
    canceled_at: datetime | None = None
    ended_at: datetime | None = None
    trial_end: datetime | None = None
    default_payment_method: str | None = None
    collection_method: str = "charge_automatically"
    pending_price_ids: tuple[str, ...] = ()
    pending_until: datetime | None = None
    schedule_id: str | None = None

    @classmethod
    def _read(cls, values: Values) -> Self:
        pending = values.get("pending_update") or {}
        return cls(
            id=values["id"],
            status=values["status"],
            customer_id=_required_id(values["customer"]),
            items=tuple(StripeSubscriptionItem.read(item) for item in values["items"]["data"]),
            cancel_at_period_end=bool(values.get("cancel_at_period_end")),
            latest_invoice_id=expanded_id(values.get("latest_invoice")),
            metadata=metadata_of(values),
            created=instant(values["created"]),
            currency=values["currency"].upper(),
            start_date=instant(values["start_date"]),
            cancel_at=maybe_instant(values.get("cancel_at")),
            canceled_at=maybe_instant(values.get("canceled_at")),
            ended_at=maybe_instant(values.get("ended_at")),
            trial_end=maybe_instant(values.get("trial_end")),
            default_payment_method=expanded_id(values.get("default_payment_method")),
            collection_method=values.get("collection_method") or "charge_automatically",
            pending_price_ids=tuple(
                _required_id(item["price"]) for item in pending.get("subscription_items") or ()
            ),
            pending_until=maybe_instant(pending.get("expires_at")),
            schedule_id=expanded_id(values.get("schedule")),
        )


def _required_id(value: Any) -> str:
    found = expanded_id(value)
    if not isinstance(found, str):
        raise TypeError("an id is missing")
    return found


@dataclass(frozen=True)
class StripeEvent(Shape):
    """An event. `data_object` is the object as it was then: fetch it afresh before acting on it (money rule
    13).
    """

    id: str
    type: str
    created: datetime
    livemode: bool
    account: str | None
    api_version: str | None
    object_id: str | None
    object_type: str | None
    data_object: Mapping[str, Any] = field(repr=False)

    @classmethod
    def _read(cls, values: Values) -> Self:
        inner = values["data"]["object"]
        return cls(
            id=_required_id(values["id"]),
            type=str(values["type"]),
            created=instant(values["created"]),
            livemode=bool(values["livemode"]),
            account=values.get("account"),
            api_version=values.get("api_version"),
            object_id=inner.get("id"),
            object_type=inner.get("object"),
            data_object=dict(inner),
        )


@dataclass(frozen=True)
class StripeProduct(Shape):
    id: str
    name: str
    active: bool
    metadata: Mapping[str, str]

    @classmethod
    def _read(cls, values: Values) -> Self:
        return cls(values["id"], values["name"], bool(values.get("active")), metadata_of(values))


@dataclass(frozen=True)
class StripePaymentMethod(Shape):
    id: str
    type: str
    customer_id: str | None

    @classmethod
    def _read(cls, values: Values) -> Self:
        return cls(values["id"], values["type"], expanded_id(values.get("customer")))


@dataclass(frozen=True)
class StripeWebhookEndpoint(Shape):
    """`secret` is there in the answer to its creation and never again."""

    id: str
    url: str
    status: str
    enabled_events: tuple[str, ...]
    secret: str | None = field(default=None, repr=False)

    @classmethod
    def _read(cls, values: Values) -> Self:
        return cls(
            values["id"],
            values["url"],
            values["status"],
            tuple(values["enabled_events"]),
            values.get("secret"),
        )


@dataclass(frozen=True)
class StripeAccountInfo(Shape):
    """Whose account the key opens."""

    id: str
    country: str | None
    default_currency: str | None
    name: str | None

    @classmethod
    def _read(cls, values: Values) -> Self:
        profile = values.get("business_profile") or {}
        currency = values.get("default_currency")
        return cls(
            values["id"], values.get("country"), currency.upper() if currency else None, profile.get("name")
        )
