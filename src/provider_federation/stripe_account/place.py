"""From an order to a finalised and sent invoice, once, whatever crashes: customer, invoice, lines, check,
finalise, send.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from provider_federation.stripe_account.account import LINES_A_CALL, StripeAccount
from provider_federation.stripe_account.errors import DuplicateInvoices, StripeFailed, TotalsDiffer
from provider_federation.stripe_account.order import (
    CUSTOMER_JOURNAL,
    InvoiceOrder,
    Journal,
    OrderCustomer,
    OrderLine,
    StepRecord,
)
from provider_federation.stripe_account.shapes import StripeInvoice, StripeLine
from provider_federation.stripe_account.steps import Done, Now, Patience, Step, number_of, run_step


def place_invoice(
    account: StripeAccount,
    order: InvoiceOrder,
    journal: Journal,
    *,
    now: Now,
    patience: Patience | None = None,
    vouched: bool = False,
) -> StripeInvoice:
    """The order's one invoice in Stripe, finalised and sent; the same one however often and by whomever this
    is called.

    `now` is the app's clock. `vouched`: the caller listed the account within the last 23 hours and saw nothing
    of this order there, so that four calls are enough: create, lines, finalise, send. Raises StripeFailed: `retryable` means that the job tries again later with the
    same order; otherwise (`TotalsDiffer`, `DuplicateInvoices`, a refusal) the order is held for a person. The
    invoice may come back `paid` (below the minimum charge, or paid meanwhile), `void` or `uncollectible`: the
    caller records what it is.
    """
    placement = Placement(account, order, journal, now=now, patience=patience, vouched=vouched)
    while placement.advance() is not None:
        pass
    return placement.invoice()


def ensure_customer(
    account: StripeAccount,
    customer: OrderCustomer,
    journal: Journal,
    *,
    now: Now,
    patience: Patience | None = None,
) -> str:
    """The id of the one Stripe customer with metadata `pf_customer` = key, created when there is none."""
    if customer.stripe_id is not None:
        return customer.stripe_id
    return run_step(_customer_step(account, customer), journal, now, patience or Patience()).result_id


class Placement:
    """The same, one step at a time, for a job that wants to be interrupted between them."""

    def __init__(
        self,
        account: StripeAccount,
        order: InvoiceOrder,
        journal: Journal,
        *,
        now: Now,
        patience: Patience | None = None,
        vouched: bool = False,
        known: Mapping[str, StepRecord] | None = None,
    ) -> None:
        self._account = account
        self._order = order
        self._journal = journal
        self._now = now
        self._patience = patience or Patience()
        self._vouched = vouched
        self._known = journal.load(order.key) if known is None else known
        self._done: dict[str, Done] = {}
        # Stripe's answer to our latest call, while nobody else can have had a hand in the invoice.
        self._seen: StripeInvoice | None = None

    def advance(self) -> str | None:
        """Do the next step that this object has not seen done, and name it; None when all are done."""
        step = self.upcoming()
        if step is None:
            return None
        known = self._known if step.journal_key == self._order.key else None
        self.note(step, run_step(step, self._journal, self._now, self._patience, known=known))
        return step.name

    def upcoming(self) -> Step | None:
        """The first step that this object has not seen done."""
        return next((step for step in self._steps() if step.name not in self._done), None)

    def invoice(self) -> StripeInvoice:
        """The invoice as Stripe told of it last; only once `advance` answered None."""
        return self._seen or self._account.retrieve_invoice(self._invoice_id)

    def note(self, step: Step, done: Done) -> None:
        """The step is done; the next one may be taken."""
        paid_at_once = step.name == "send" and self._seen is not None and self._seen.status != "open"
        if not done.undisturbed and not paid_at_once and step.name != "customer":
            self._seen = None
        self._done[step.name] = done

    @property
    def _invoice_id(self) -> str:
        return self._done["invoice"].result_id

    @property
    def _customer_id(self) -> str:
        return self._order.customer.stripe_id or self._done["customer"].result_id

    def _steps(self) -> Iterator[Step]:
        order, customer = self._order, self._order.customer
        if customer.stripe_id is None:
            yield _customer_step(self._account, customer)
        customer_is_new = "customer" in self._done and self._done["customer"].made
        look = not (customer_is_new or self._vouched)
        yield Step(order.key, "invoice", self._find_invoice, self._make_invoice, look_first=look)
        look = not ("invoice" in self._done and self._done["invoice"].made)  # an older one may be complete
        for number, chunk in enumerate(_chunks(order.lines)):
            yield self._lines_step(number, chunk, look_first=look)
        yield Step(order.key, "finalise", self._find_finalised, self._finalise, look_first=look)
        # Below the minimum charge an invoice is paid as soon as it is final; there is nothing left to send.
        yield Step(order.key, "send", self._find_sent, self._send, look_first=True)

    def _find_invoice(self, since: datetime | None) -> str | None:
        mine = {"pf_key": self._order.key}
        found = self._account.list_invoices(customer_id=self._customer_id, metadata=mine, since=since)
        living = [invoice for invoice in found if invoice.status != "void"]
        if len(living) > 1:
            ids = ", ".join(invoice.id for invoice in living)
            raise DuplicateInvoices(f"The order {self._order.key} has several invoices in Stripe: {ids}.")
        return (living or found)[0].id if found else None

    def _make_invoice(self, idempotency_key: str) -> str:
        order = self._order
        created = self._account.create_invoice(
            customer_id=self._customer_id,
            currency=order.currency,
            metadata={**order.metadata, "pf_key": order.key},
            idempotency_key=idempotency_key,
            days_until_due=order.days_until_due,
            description=order.description,
            tax_rates=order.tax_rates,
        )
        self._seen = created
        return created.id

    def _lines_step(self, number: int, chunk: Sequence[OrderLine], *, look_first: bool) -> Step:
        missing = list(chunk)

        def find(_since: datetime | None) -> str | None:
            present = {line.metadata.get("pf_line") for line in self._account.list_lines(self._invoice_id)}
            missing[:] = [line for line in chunk if line.key not in present]
            is_draft = self._account.retrieve_invoice(self._invoice_id).status == "draft"
            return None if is_draft and missing else self._invoice_id

        def make(idempotency_key: str) -> str:
            # Only some of them there: a mismatch under the old key, and so a new key for the rest.
            lines = [line.parameters() for line in missing]
            self._seen = self._account.add_lines(self._invoice_id, lines, idempotency_key=idempotency_key)
            return self._seen.id

        return Step(self._order.key, f"lines-{number}", find, make, look_first)

    def _find_finalised(self, _since: datetime | None) -> str | None:
        invoice = self._account.retrieve_invoice(self._invoice_id)
        if invoice.status == "draft":
            return None
        if invoice.status != "void":  # somebody else made it final: only if it is the order
            check_totals(self._order, invoice, self._account.list_lines(invoice.id))
        return invoice.id

    def _finalise(self, idempotency_key: str) -> str:
        if self._seen is None and self._keys_used("invoice") > 1:
            self._find_invoice(None)  # more than one key was used: make sure that they led to one invoice
        invoice = self._seen or self._account.retrieve_invoice(self._invoice_id)
        all_told = self._seen is not None and not invoice.has_more_lines
        check_totals(
            self._order, invoice, invoice.lines if all_told else self._account.list_lines(invoice.id)
        )
        self._seen = self._account.finalize_invoice(self._invoice_id, idempotency_key=idempotency_key)
        return self._seen.id

    def _keys_used(self, step: str) -> int:
        begun = self._journal.load(self._order.key).get(step)
        return 0 if begun is None else number_of(begun)

    def _find_sent(self, _since: datetime | None) -> str | None:
        invoice = self._seen or self._account.retrieve_invoice(self._invoice_id)
        return None if invoice.status == "open" else invoice.id

    def _send(self, idempotency_key: str) -> str:
        try:
            self._seen = self._account.send_invoice(self._invoice_id, idempotency_key=idempotency_key)
        except StripeFailed as failure:
            self._seen = None
            if failure.retryable or self._find_sent(None) is None:
                raise
            # Paid or voided since it was finalised: there is nothing left to send.
        return self._invoice_id


def check_totals(order: InvoiceOrder, invoice: StripeInvoice, lines: Sequence[StripeLine]) -> None:
    """TotalsDiffer unless the invoice is the order: same currency and total (tax that Stripe adds aside), each
    line once with its amount, and no other.
    """
    if invoice.currency != order.currency.upper():
        raise TotalsDiffer(
            f"The invoice {invoice.id} is in {invoice.currency}, the order in {order.currency.upper()}."
        )
    ordered = Counter((line.key, line.amount) for line in order.lines)
    drafted = Counter((line.metadata.get("pf_line") or line.id, line.amount) for line in lines)
    if ordered != drafted:
        missing, extra = sum((ordered - drafted).values()), sum((drafted - ordered).values())
        raise TotalsDiffer(
            f"The invoice {invoice.id} misses {missing} lines of the order and has {extra} others."
        )
    untaxed = invoice.total - invoice.tax_on_top
    if untaxed != order.total:
        raise TotalsDiffer(
            f"The invoice {invoice.id} totals {untaxed} before tax, the order {order.total} (a discount?)."
        )


def _chunks(lines: Sequence[OrderLine]) -> Iterator[Sequence[OrderLine]]:
    for start in range(0, len(lines), LINES_A_CALL):
        yield lines[start : start + LINES_A_CALL]


def _customer_step(account: StripeAccount, customer: OrderCustomer) -> Step:
    mine = {"pf_customer": customer.key}

    def find(since: datetime | None) -> str | None:
        found = account.list_customers(metadata=mine, email=customer.email) if customer.email else []
        if not found and since is not None:
            found = account.list_customers(metadata=mine, since=since)
        return found[-1].id if found else None  # the oldest: the one that earlier invoices hang on

    def make(idempotency_key: str) -> str:
        metadata = {**customer.metadata, **mine}
        created = account.create_customer(
            name=customer.name, email=customer.email, metadata=metadata, idempotency_key=idempotency_key
        )
        return created.id

    return Step(CUSTOMER_JOURNAL + customer.key, "customer", find, make, look_first=True)
