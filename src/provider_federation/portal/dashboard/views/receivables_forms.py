"""The forms of corrections: amounts as people write them, references so that a double click counts once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from django import forms

from provider_federation.money import MoneyError, format_amount, parse_decimal, round_half_up
from provider_federation.money.amount import exponent
from provider_federation.portal.receivables.models import Receivable, Settle
from provider_federation.portal.receivables.queries import LineLeft
from provider_federation.portal.receivables.services.credit_notes import CreditLine, CreditRequest
from provider_federation.portal.receivables.services.refunds import RefundRequest

_REASONS = (
    ("order_change", "Something changed"),
    ("product_unsatisfactory", "It was not what was promised"),
    ("duplicate", "Billed twice"),
    ("fraudulent", "Fraud"),
)
_REFUND_REASONS = (
    ("requested_by_customer", "The client asked"),
    ("duplicate", "Paid twice"),
    ("fraudulent", "Fraud"),
)


def minor_units(text: str, currency: str) -> int:
    """`12.34` as an operator writes it, in minor units. ValidationError for anything else."""
    try:
        exact = parse_decimal(text)
        cents = round_half_up(exact, currency)
    except MoneyError:
        raise forms.ValidationError("Write an amount such as 12.34.") from None
    if cents <= 0 or exact != exact.quantize(exact.__class__(1).scaleb(-exponent(currency))):
        raise forms.ValidationError(f"An amount above 0 with at most {exponent(currency)} decimals.")
    return cents


class CreditForm(forms.Form):
    """One amount a line (empty: nothing of it); no amount at all credits all that is left."""

    reference = forms.CharField(widget=forms.HiddenInput, max_length=64)
    reason = forms.ChoiceField(choices=_REASONS)
    memo = forms.CharField(
        max_length=500, required=False, help_text="The client reads it on the credit note."
    )
    settle = forms.ChoiceField(choices=Settle.choices, label="The money goes")
    frees_leads = forms.BooleanField(
        required=False,
        label="Free the leads of fully credited lines",
        help_text="They may be billed again, once, should they convert anew.",
    )

    def __init__(self, invoice: Receivable, lines: Sequence[LineLeft], *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.fields["reference"].initial = str(uuid4())
        self.invoice, self.lines = invoice, [line for line in lines if line.left > 0]
        amounts = {}
        for line in self.lines:
            left = format_amount(line.left, invoice.currency)
            amounts[f"line_{line.position}"] = forms.CharField(
                required=False,
                max_length=20,
                label=line.description[:120],
                help_text=f"At most {left}, without tax.",
            )
        self.fields = {**amounts, **self.fields}
        if invoice.status != "paid":
            del self.fields["settle"]

    def clean(self) -> dict[str, Any]:
        """Read the amounts into what the service takes."""
        given = super().clean() or {}
        chosen = []
        for line in self.lines:
            name = f"line_{line.position}"
            text = str(given.get(name) or "").strip()
            if not text:
                continue
            try:
                chosen.append(CreditLine(line.position, minor_units(text, self.invoice.currency)))
            except forms.ValidationError as error:
                self.add_error(name, error)
        self.wanted = CreditRequest(
            reference=str(given.get("reference", "")),
            lines=tuple(chosen),
            reason=str(given.get("reason", "")),
            memo=str(given.get("memo", "")),
            settle=str(given.get("settle") or Settle.BALANCE),
            frees_leads=bool(given.get("frees_leads")),
        )
        return given


class RefundForm(forms.Form):
    """An amount, or all that is left."""

    reference = forms.CharField(widget=forms.HiddenInput, max_length=64)
    amount = forms.CharField(required=False, max_length=20, help_text="Empty: all that is left.")
    reason = forms.ChoiceField(choices=_REFUND_REASONS)

    def __init__(self, invoice: Receivable, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.fields["reference"].initial = str(uuid4())
        self.fields["amount"].label = f"Amount in {invoice.currency.upper()}"
        self.invoice = invoice

    def clean(self) -> dict[str, Any]:
        """Read the amount into what the service takes."""
        given = super().clean() or {}
        text, cents = str(given.get("amount") or "").strip(), None
        if text:
            try:
                cents = minor_units(text, self.invoice.currency)
            except forms.ValidationError as error:
                self.add_error("amount", error)
        self.wanted = RefundRequest(str(given.get("reference", "")), cents, str(given.get("reason", "")))
        return given


class DisputeForm(forms.Form):
    claim = forms.CharField(
        max_length=1000, widget=forms.Textarea(attrs={"rows": 4}), label="What does the client say?"
    )


class DecisionForm(forms.Form):
    decision = forms.CharField(
        max_length=1000, widget=forms.Textarea(attrs={"rows": 3}), label="The decision, and why"
    )
    frees_lead = forms.BooleanField(
        required=False, label="Free the lead", help_text="It may be billed again should it convert anew."
    )
    settle = forms.ChoiceField(choices=Settle.choices, label="When accepted, the money goes")

    def __init__(self, invoice: Receivable, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        if invoice.status != "paid":
            self.fields["settle"].widget = forms.HiddenInput()
            self.fields["settle"].initial = Settle.BALANCE
