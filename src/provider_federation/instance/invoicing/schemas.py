"""Invoices, previews and drafts on the wire (contract, section 3; docs/architecture.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Literal

from ninja import Schema
from pydantic import ConfigDict, Field, StrictInt
from pydantic.alias_generators import to_camel

from provider_federation.instance.invoicing.models import Invoice, InvoiceLine
from provider_federation.instance.invoicing.services import Drafted, WantedLine
from provider_federation.instance.leads.models import Lead
from provider_federation.instance.wire import Answer, Instant, Wire, read_id
from provider_federation.kit.web.api import Strict
from provider_federation.money import Period

MOST_LINES = 1_000
Id = Annotated[str, Field(min_length=1, max_length=40)]
Cursor = Annotated[str, Field(min_length=1, max_length=512)]
Status = Literal["draft", "open", "paid", "void", "uncollectible"]
Range = Literal["d7", "d30", "d90", "all"]
# The money package reads the day itself (and says what is wrong with it); here only its length is bounded.
Day = Annotated[str, Field(max_length=40, json_schema_extra={"format": "date"})]


class WindowQuery(Schema):
    range: Range | None = None
    start: Day | None = None
    end: Day | None = None


class ListQuery(Schema):
    status: Status | None = None
    cursor: Cursor | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    updated_since: Annotated[
        str | None, Field(alias="updatedSince", max_length=40, json_schema_extra={"format": "date-time"})
    ] = None


class GetQuery(Schema):
    id: Id


class _CamelStrict(Strict):
    model_config = ConfigDict(
        extra="forbid", str_strip_whitespace=True, alias_generator=to_camel, populate_by_name=True
    )


class LineIn(_CamelStrict):
    """A line as the preview showed it. Only `leadId` chooses; an amount or customer that differs from ours
    refuses the request.
    """

    lead_id: Id
    lead_public_id: Annotated[str | None, Field(max_length=40)] = None
    when: Annotated[str | None, Field(max_length=40)] = None
    unit_price_cents: StrictInt | None = None
    amount_cents: StrictInt | None = None
    customer_id: Id | None = None

    def wanted(self) -> WantedLine:
        """What the service takes; an id that cannot be ours is a 404."""
        return WantedLine(
            read_id(self.lead_id, "lead"),
            self.amount_cents if self.amount_cents is not None else self.unit_price_cents,
            None if self.customer_id is None else read_id(self.customer_id, "customer"),
        )


class CreateIn(_CamelStrict):
    """A window (here or in the query), or the lines themselves."""

    range: Range | None = None
    start: Day | None = None
    end: Day | None = None
    lines: Annotated[list[LineIn] | None, Field(min_length=1, max_length=MOST_LINES)] = None


class SendIn(_CamelStrict):
    id: Id


class WindowOut(Wire):
    """Half open: `toISO` is the first moment that no longer belongs."""

    label: str
    from_iso: Annotated[Instant, Field(serialization_alias="fromISO")]
    to_iso: Annotated[Instant, Field(serialization_alias="toISO")]

    @classmethod
    def of(cls, period: Period) -> WindowOut:
        return cls(label=period.label, from_iso=period.start, to_iso=period.end)


class PreviewLine(Wire):
    lead_id: str
    lead_public_id: str
    when: Instant
    unit_price_cents: int
    amount_cents: int
    currency: str
    customer_id: str
    customer_name: str

    @classmethod
    def of(cls, lead: Lead) -> PreviewLine:
        assert lead.converted_at is not None
        assert lead.customer is not None
        return cls(
            lead_id=str(lead.pk),
            lead_public_id=lead.public_id,
            when=lead.converted_at,
            unit_price_cents=lead.price_cents or 0,
            amount_cents=lead.price_cents or 0,
            currency=lead.currency,
            customer_id=str(lead.customer_id),
            customer_name=lead.customer.name,
        )


class PreviewOut(Answer):
    """`totalCents` adds up `currency`, the currency of most lines; `totals` has every currency by itself."""

    count: int
    total_cents: int
    currency: str | None
    totals: dict[str, int]
    window: WindowOut
    lines: list[PreviewLine]

    @classmethod
    def of(cls, leads: list[Lead], window: Period) -> PreviewOut:
        totals = _totals((lead.currency, lead.price_cents or 0) for lead in leads)
        currency = _main_currency([lead.currency for lead in leads])
        return cls(
            count=len(leads),
            total_cents=totals.get(currency or "", 0),
            currency=currency,
            totals=totals,
            window=WindowOut.of(window),
            lines=[PreviewLine.of(lead) for lead in leads],
        )


class CustomerOut(Wire):
    id: str
    name: str
    email: str


class InvoiceOut(Wire):
    """An invoice as lists, the feed and the portal's mirror have it."""

    id: str
    number: str
    customer: CustomerOut
    period_from: Instant
    period_to: Instant
    status: Status
    subtotal_cents: int
    tax_cents: int
    total_cents: int
    amount_paid_cents: int
    paid_out_of_band: bool
    currency: str
    created_at: Instant
    updated_at: Instant
    sent_at: Instant | None
    paid_at: Instant | None
    stripe_invoice_id: str | None
    hosted_invoice_url: str | None

    @classmethod
    def of(cls, invoice: Invoice) -> InvoiceOut:
        return cls.model_validate(_columns(invoice))


class InvoiceLineOut(Wire):
    id: str
    lead_id: str
    lead_public_id: str
    description: str
    when: Instant
    quantity: int
    unit_price_cents: int
    amount_cents: int

    @classmethod
    def of(cls, line: InvoiceLine) -> InvoiceLineOut:
        return cls(
            id=str(line.pk),
            lead_id=str(line.lead_id),
            lead_public_id=line.lead.public_id,
            description=line.description,
            when=line.converted_at,
            quantity=line.quantity,
            unit_price_cents=line.unit_price_cents,
            amount_cents=line.amount_cents,
        )


class InvoiceWithLines(InvoiceOut):
    stripe_number: str | None
    invoice_pdf: str | None
    lines: list[InvoiceLineOut]

    @classmethod
    def of(cls, invoice: Invoice) -> InvoiceWithLines:
        lines = [
            InvoiceLineOut.of(line) for line in sorted(invoice.lines.all(), key=lambda line: line.position)
        ]
        more = {"stripe_number": invoice.stripe_number or None, "invoice_pdf": invoice.invoice_pdf or None}
        return cls.model_validate({**_columns(invoice), **more, "lines": lines})


class ListOut(Answer):
    items: list[InvoiceOut]
    next_cursor: str | None


class GetOut(Answer):
    invoice: InvoiceWithLines


class Counts(Wire):
    leads: int
    lines: int


class Totals(Wire):
    subtotal_cents: int
    tax_cents: int
    total_cents: int


class CreateOut(Answer):
    """`invoice` is the first of `invoices`, null (with a `message`) when nothing is billable.

    `totals` adds up the invoices in `currency`; `totalsByCurrency` has every currency by itself.
    """

    reused: bool
    message: str | None
    invoice: InvoiceOut | None
    invoices: list[InvoiceOut]
    window: WindowOut
    counts: Counts
    currency: str | None
    totals: Totals
    totals_by_currency: dict[str, int]

    @classmethod
    def of(cls, drafted: Drafted, lines: int) -> CreateOut:
        """`lines` counts the lines of all the invoices shown."""
        shown = [InvoiceOut.of(invoice) for invoice in drafted.invoices]
        currency = _main_currency([invoice.currency for invoice in shown])
        same = [invoice for invoice in shown if invoice.currency == currency]
        return cls(
            reused=bool(shown) and drafted.reused,
            message=None if shown else "Nothing in this window is billable.",
            invoice=shown[0] if shown else None,
            invoices=shown,
            window=WindowOut.of(drafted.window),
            counts=Counts(leads=lines, lines=lines),
            currency=currency,
            totals=Totals(
                subtotal_cents=sum(invoice.subtotal_cents for invoice in same),
                tax_cents=sum(invoice.tax_cents for invoice in same),
                total_cents=sum(invoice.total_cents for invoice in same),
            ),
            totals_by_currency=_totals((invoice.currency, invoice.total_cents) for invoice in shown),
        )


class StripeInvoiceOut(Wire):
    id: str
    number: str | None
    status: Status
    amount_due: int
    hosted_invoice_url: str | None
    invoice_pdf: str | None


class SendOut(Answer):
    stripe_invoice: StripeInvoiceOut


class WebhookOut(Answer):
    received: Literal[True] = True
    state: Literal["applied", "ignored", "parked"]


def _columns(invoice: Invoice) -> dict[str, object]:
    customer = invoice.customer
    return {
        "id": str(invoice.pk),
        "number": invoice.number,
        "customer": CustomerOut(id=str(customer.pk), name=customer.name, email=customer.email),
        "period_from": invoice.period_from,
        "period_to": invoice.period_to,
        "status": invoice.status,
        "subtotal_cents": invoice.subtotal_cents,
        "tax_cents": invoice.tax_cents,
        "total_cents": invoice.total_cents,
        "amount_paid_cents": invoice.amount_paid_cents,
        "paid_out_of_band": invoice.paid_out_of_band,
        "currency": invoice.currency,
        "created_at": invoice.created_at,
        "updated_at": invoice.updated_at,
        "sent_at": invoice.sent_at,
        "paid_at": invoice.paid_at,
        "stripe_invoice_id": invoice.stripe_invoice_id,
        "hosted_invoice_url": invoice.hosted_invoice_url or None,
    }


def _totals(amounts: Iterable[tuple[str, int]]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for currency, cents in amounts:
        totals[currency] = totals.get(currency, 0) + cents
    return totals


def _main_currency(currencies: list[str]) -> str | None:
    """The most frequent, the first by name among equals."""
    counted = Counter(currencies)
    return min(counted, key=lambda one: (-counted[one], one)) if counted else None
