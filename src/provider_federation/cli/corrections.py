"""`provider-federation portal invoice …`: what may still be done to an invoice that has left."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from provider_federation.cli.portal_shell import AsJson, actor, load_portal, print_json

if TYPE_CHECKING:
    from pydantic import BaseModel

    from provider_federation.portal.receivables.models import CreditNote, Receivable, Refund
    from provider_federation.portal.receivables.services.credit_notes import CreditRequest

_Body = TypeVar("_Body", bound="BaseModel")

app = typer.Typer(
    no_args_is_help=True,
    help="Invoices that have left: void, credit, refund.\n\nExit codes: 0 it is done, 1 you said no or it is not finished,"
    " 2 it is refused, with the reason on standard error.",
)

NOT_DONE = 1
_OWED = {"open", "uncollectible"}

Invoice = Annotated[str, typer.Argument(metavar="ID", help="The invoice's id in Stripe (in_...).")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Reference = Annotated[
    str,
    typer.Option(
        help="Your own name for this request. Without one it is made from what is asked, so that the same command"
        " again is the same request; name another one to ask for the same once more."
    ),
]


@app.command()
def show(invoice: Invoice, *, as_json: AsJson = False) -> None:
    """An invoice: lines, what is left of it, its past."""
    found = _invoice(invoice)
    from provider_federation.portal.receivables import queries
    from provider_federation.portal.receivables.schemas import whole_out
    from provider_federation.portal.receivables.services.credit_notes import credit_lines
    from provider_federation.portal.subscriptions.account import stripe_problems

    if as_json:
        print_json({"ok": True, "invoice": whole_out(found)})
        return
    _print_invoice(found)
    with stripe_problems():
        lines = credit_lines(found)
    for line in lines:
        print(
            f"  line {line.position}: {_money(line.amount, found)}, {_money(line.left, found)} left  {line.description}"
        )
    print(f"To credit: {_money(queries.creditable(found), found)}")
    print(f"To refund: {_money(queries.refundable(found), found)}")
    history = queries.history_of(found)
    for note in history.credit_notes:
        print(_note_line(note))
    for refund in history.refunds:
        print(_refund_line(refund))


@app.command()
def void(invoice: Invoice, *, yes: Yes = False, as_json: AsJson = False) -> None:
    """Void an open or written-off invoice.

    Nothing is owed any more, and its leads may be billed again. Doing it twice changes nothing.
    """
    found = _invoice(invoice)
    from provider_federation.portal.receivables.services.corrections import void_invoice

    _correct(found, "Void it? This cannot be undone.", void_invoice, yes=yes, as_json=as_json)


@app.command("write-off")
def write_off(invoice: Invoice, *, yes: Yes = False, as_json: AsJson = False) -> None:
    """Mark an open invoice as uncollectible.

    It is no longer expected, but can still be paid or voided. Doing it twice changes nothing.
    """
    found = _invoice(invoice)
    from provider_federation.portal.receivables.services import corrections

    _correct(found, "Write it off?", corrections.write_off, yes=yes, as_json=as_json)


@app.command()
def credit(
    invoice: Invoice,
    *,
    line: Annotated[
        list[str] | None,
        typer.Option(
            help="POSITION, or POSITION:AMOUNT in minor units (cents) without tax; may be given again. Without any:"
            " all that is left of the invoice."
        ),
    ] = None,
    free_leads: Annotated[
        bool,
        typer.Option(
            "--free-leads/--keep-leads", help="Whether the leads of these lines may be billed again."
        ),
    ] = False,
    settle: Annotated[
        str, typer.Option(help="Where a paid invoice's money goes: balance, refund or outside.")
    ] = "balance",
    reason: Annotated[
        str, typer.Option(help="duplicate, fraudulent, order_change or product_unsatisfactory.")
    ] = "order_change",
    memo: Annotated[str, typer.Option(help="A sentence for the client.")] = "",
    reference: Reference = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Credit a final invoice: lines or all of it.

    Shows what it comes to, asks, and issues the credit note once.
    """
    found = _invoice(invoice)
    from provider_federation.portal.receivables.models import CreditNote
    from provider_federation.portal.receivables.schemas import CreditNoteIn, credit_note_out
    from provider_federation.portal.receivables.services.credit_notes import issue_credit_note

    asked: dict[str, Any] = {
        "reference": reference or "-",
        "lines": [_line(one) for one in line or ()],
        "reason": reason,
    }
    asked |= {"memo": memo, "settle": settle, "freesLeads": free_leads}
    wanted = _read(CreditNoteIn, asked).request()
    wanted = wanted if reference else replace(wanted, reference=_reference(found, wanted.digest))
    if not yes:
        again = CreditNote.objects.filter(instance=found.instance, reference=wanted.reference).exists()
        _ask(found, again=again, show=lambda: _preview(found, wanted), question="Issue this credit note?")
    _tell_reference(wanted.reference)
    made = issue_credit_note(found, wanted, actor=actor())
    if as_json:
        print_json({"ok": True, "reused": made.reused, "creditNote": credit_note_out(made.note)})
    else:
        print(_note_line(made.note) + (" (made before)" if made.reused else ""))
    _exit(made.note.state, done={"issued"})


@app.command()
def refund(
    invoice: Invoice,
    *,
    amount: Annotated[
        int | None,
        typer.Option(min=1, help="In minor units (cents). Without one: all that is left of what was paid."),
    ] = None,
    reason: Annotated[
        str, typer.Option(help="duplicate, fraudulent or requested_by_customer.")
    ] = "requested_by_customer",
    reference: Reference = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give back what was paid through Stripe, once.

    What the invoice asks for stays as it is; to lower that there is `credit`.
    """
    found = _invoice(invoice)
    from provider_federation.portal.receivables import queries
    from provider_federation.portal.receivables.models import Refund
    from provider_federation.portal.receivables.schemas import RefundIn, whole_refund_out
    from provider_federation.portal.receivables.services.refunds import refund_payment

    asked = {"reference": reference or "-", "amountCents": amount, "reason": reason}
    wanted = _read(RefundIn, asked).request()
    wanted = wanted if reference else replace(wanted, reference=_reference(found, wanted.digest))
    if not yes:
        again = Refund.objects.filter(instance=found.instance, reference=wanted.reference).exists()
        back = _money(queries.refundable(found) if amount is None else amount, found)
        _ask(found, again=again, show=lambda: None, question=f"Give {back} back?")
    _tell_reference(wanted.reference)
    made = refund_payment(found, wanted, actor=actor())
    if as_json:
        print_json({"ok": True, "reused": made.reused, "refund": whole_refund_out(made)})
    else:
        for part in made.parts:
            print(_refund_line(part) + (" (made before)" if made.reused else ""))
    _exit(made.state, done={"pending", "succeeded"})


def _invoice(stripe_invoice_id: str) -> Receivable:
    load_portal()
    from provider_federation.portal.receivables import queries

    return queries.receivable(stripe_invoice_id)


def _correct(
    found: Receivable, question: str, way: Callable[..., Receivable], *, yes: bool, as_json: bool
) -> None:
    from provider_federation.portal.receivables.schemas import receivable_out

    if not yes:
        _print_invoice(found, err=True)
        typer.confirm(question, abort=True, err=True)
    row = way(found, actor=actor())
    if as_json:
        print_json({"ok": True, "invoice": receivable_out(row)})
    else:
        _print_invoice(row)


def _line(text: str) -> dict[str, int]:
    """`2` or `2:500`, as the API takes a line. Problem 400 `invalid_field`."""
    from provider_federation.kit.problem import Problem

    position, colon, amount = text.partition(":")
    numbers = [position, amount] if colon else [position]
    if not all(one.isascii() and one.isdigit() for one in numbers):
        raise Problem(
            400, "invalid_field", "--line: a position, or POSITION:AMOUNT in minor units.", field="line"
        )
    return dict(zip(("position", "amountCents"), (int(one) for one in numbers), strict=False))


def _read(schema: type[_Body], asked: dict[str, Any]) -> _Body:
    """By the rules of the API's own body. Problem 400 `invalid_field`."""
    from pydantic import ValidationError

    from provider_federation.kit.problem import Problem

    try:
        return schema.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Problem(400, "invalid_field", f"{where}: {first['msg']}.", field=where) from None


def _reference(invoice: Receivable, digest: str) -> str:
    """The same for the same command."""
    made = hashlib.sha256(f"{invoice.stripe_invoice_id} {digest}".encode()).hexdigest()
    return f"cli-{made[:24]}"


def _ask(invoice: Receivable, *, again: bool, show: Callable[[], None], question: str) -> None:
    """What is about to happen, on standard error; nothing when it was allowed before."""
    if again:
        print("This was asked for before; here is what came of it.", file=sys.stderr)
        return
    _print_invoice(invoice, err=True)
    show()
    typer.confirm(question, abort=True, err=True)


def _preview(invoice: Receivable, wanted: CreditRequest) -> None:
    from provider_federation.portal.receivables.services.credit_notes import preview_credit_note

    shown = preview_credit_note(invoice, wanted)
    amounts = {
        "credit": shown.total,
        "of it tax": shown.tax,
        "to the balance": shown.to_balance,
        "refunded": shown.refunded,
        "settled outside": shown.outside,
        "still to pay": shown.remaining_after,
    }
    for name, cents in amounts.items():
        if cents or name == "credit":
            print(f"  {name}: {_money(cents, invoice)}", file=sys.stderr)
    print(f"  leads: {'may be billed again' if wanted.frees_leads else 'stay billed'}", file=sys.stderr)


def _tell_reference(reference: str) -> None:
    """Before anything is asked of Stripe, so that it is known whatever happens."""
    print(f"Reference: {reference}", file=sys.stderr)


def _exit(state: str, *, done: set[str]) -> None:
    if state not in done:
        raise typer.Exit(NOT_DONE)


def _print_invoice(row: Receivable, *, err: bool = False) -> None:
    name, total = row.number or row.stripe_invoice_id, _money(row.total_cents, row)
    owed = f", {_money(row.remaining_cents, row)} to pay" if row.status in _OWED else ""
    print(
        f"{row.instance} {name}: {row.status}, {total} in all{owed}.", file=sys.stderr if err else sys.stdout
    )


def _note_line(note: CreditNote) -> str:
    why = f": {note.failure}" if note.failure else ""
    return f"Credit note {note.number or note.pk}: {_money(note.total_cents or note.subtotal_cents, note)}, {note.get_state_display()}{why}"


def _refund_line(row: Refund) -> str:
    why = f": {row.failure}" if row.failure else ""
    return f"Refund {row.stripe_refund_id or row.pk}: {_money(row.amount_cents, row)}, {row.get_state_display()}{why}"


def _money(cents: int, of: Any) -> str:
    from provider_federation.money import format_amount

    return format_amount(cents, of.currency)
