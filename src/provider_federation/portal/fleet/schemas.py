"""What fleet takes and gives: the parameters of a run, and an invoice as an instance's feed carries it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from provider_federation.kit.text import clean_text
from provider_federation.kit.web.api import Strict
from provider_federation.kit.web.fields import Day

MOST_INSTANCES = 10_000
MOST_INVOICES = 100
MOST_CENTS = 10**15
LONGEST_ADDRESS = 2000

ActionName = Literal["preview", "draft", "send", "sync", "check"]


InvoiceIds = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=128)]], Field(min_length=1, max_length=MOST_INVOICES)
]


class RunParams(Strict):
    """A window for `preview` and `draft` (contract, section 3), invoice ids for `send`; nothing for the
    others.
    """

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    range: Literal["d7", "d30", "d90", "all"] | None = None
    start: Day | None = None
    end: Day | None = None
    invoice_ids: InvoiceIds | None = None

    @model_validator(mode="after")
    def _one_window(self) -> Self:
        if (self.start is None) != (self.end is None):
            raise ValueError("give both start and end, or neither")
        if self.start is not None and self.range is not None:
            raise ValueError("give either a range or start and end")
        if self.invoice_ids is not None and len(set(self.invoice_ids)) != len(self.invoice_ids):
            raise ValueError("an invoice id stands in the list twice")
        return self

    def window(self) -> dict[str, str]:
        """The window as the instance's routes take it; the last 30 days unless told."""
        if self.start is not None and self.end is not None:
            return {"start": self.start.isoformat(), "end": self.end.isoformat()}
        return {"range": self.range or "d30"}

    def stored(self) -> dict[str, Any]:
        """JSON for the run's row."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StartRun(Strict):
    """The body of POST /api/provider/fleet/runs: an action over the instances named, or over all enabled
    ones.
    """

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    action: ActionName
    instance_ids: list[str] | None = Field(None, min_length=1, max_length=MOST_INSTANCES)
    all: bool = False
    params: RunParams = RunParams()

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if (self.instance_ids is None) != self.all:
            raise ValueError("give either instanceIds or all: true")
        return self


def _plain_text(text: str) -> str:
    """An id or a cursor: refuse what PostgreSQL cannot store and no page should show."""
    if not text.isprintable():
        raise ValueError("holds control characters")
    text.encode()  # a lone surrogate cannot be stored: UnicodeEncodeError is a ValueError
    return text


def cleaned(longest: int) -> BeforeValidator:
    """A text field of somebody else's words: null is empty, the rest as `clean_text` leaves it."""

    def clean(value: Any) -> Any:
        return "" if value is None else clean_text(value, longest) if isinstance(value, str) else value

    return BeforeValidator(clean)


def web_address(value: Any) -> str:
    """Shown as a link: a `javascript:` address from an instance must never become one; neither does half
    an address.
    """
    usable = (
        isinstance(value, str) and value.startswith(("https://", "http://")) and len(value) <= LONGEST_ADDRESS
    )
    return value if usable and value.isprintable() and value.isascii() else ""


def _instant(value: Any) -> Any:
    """A day (`2026-02-01`) means its first moment in UTC; instants keep theirs and need an offset."""
    if value == "" or value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("must be an ISO 8601 text")  # noqa: TRY004  pydantic turns ValueError into a finding
    if len(value) == len("2026-02-01"):
        instant = datetime.combine(date.fromisoformat(value), time(), UTC)
    else:
        instant = datetime.fromisoformat(value)
    if instant.tzinfo is None:
        raise ValueError("has no offset")
    # In another zone the edges of the calendar lie outside what PostgreSQL's driver and Python can hold.
    if not 1900 <= instant.year <= 9000:
        raise ValueError("is out of range")
    return instant.astimezone(UTC)


Instant = Annotated[datetime, BeforeValidator(_instant)]
MaybeInstant = Annotated[datetime | None, BeforeValidator(_instant)]
RemoteId = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_plain_text)]
Cents = Annotated[int, Field(strict=True, ge=0, le=MOST_CENTS)]


class FromInstance(BaseModel):
    """Answers may grow fields; what we read of them is checked strictly."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class RemoteCustomer(FromInstance):
    id: Annotated[str, cleaned(128)] = ""
    name: Annotated[str, cleaned(300)] = ""
    email: Annotated[str, cleaned(320)] = ""


class RemoteInvoice(FromInstance):
    """An invoice on the wire (docs/architecture.md, "The wire")."""

    id: RemoteId
    number: Annotated[str, cleaned(128)] = ""
    customer: RemoteCustomer = RemoteCustomer()
    status: Literal["draft", "open", "paid", "void", "uncollectible"]
    period_from: MaybeInstant = None
    period_to: MaybeInstant = None
    currency: Annotated[str, Field(pattern=r"^[A-Za-z]{3}$"), AfterValidator(str.lower)]
    subtotal_cents: Cents
    tax_cents: Cents
    total_cents: Cents
    amount_paid_cents: Cents = 0
    created_at: Instant
    updated_at: Instant
    sent_at: MaybeInstant = None
    paid_at: MaybeInstant = None
    stripe_invoice_id: Annotated[str, cleaned(128)] = ""
    hosted_invoice_url: Annotated[str, BeforeValidator(web_address)] = ""

    def columns(self) -> dict[str, Any]:
        """The mirror's columns by name, without instance, seq and generation."""
        values = self.model_dump(exclude={"id", "customer"})
        return {
            **values,
            "remote_id": self.id,
            "customer_id": self.customer.id,
            "customer_name": self.customer.name,
            "customer_email": self.customer.email,
        }


class Change(FromInstance):
    """One entry of the changes feed. A type that we do not know carries no invoice for us."""

    seq: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
    type: Annotated[str, Field(max_length=64)]
    invoice: RemoteInvoice | None = None


class FeedPage(FromInstance):
    """A page of any feed: which history it belongs to, and where to go on."""

    epoch: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_plain_text)]
    next_cursor: Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_plain_text)]
    has_more: bool


class ChangesPage(FeedPage):
    """`GET /api/federation/changes`: entries in order of `seq`."""

    items: Annotated[list[Change], Field(max_length=1000)]
