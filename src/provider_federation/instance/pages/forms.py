"""What people type into the pages."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from django import forms

from provider_federation.instance.disputes.models import LONGEST_WORDS, DisputeState
from provider_federation.instance.invoicing.models import EventState, InvoiceStatus, ProviderPolicy
from provider_federation.instance.invoicing.services import WantedLine
from provider_federation.instance.leads.models import Lead, LeadStatus
from provider_federation.instance.people.models import Role
from provider_federation.kit import clock
from provider_federation.money import MoneyError, Period, parse_window, round_half_up, to_decimal
from provider_federation.money.amount import EXPONENTS

LONGEST_PASSWORD = 1_000
_BIGGEST_ID = 2**63


class _Form(forms.Form):
    """Labels without a colon; `required` is said by the field itself."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **{"label_suffix": "", **more})


def _password(label: str, *, new: bool, help_text: str = "") -> forms.CharField:
    widget = forms.PasswordInput(attrs={"autocomplete": "new-password" if new else "current-password"})
    return forms.CharField(
        label=label, max_length=LONGEST_PASSWORD, strip=False, widget=widget, help_text=help_text
    )


class SignInForm(_Form):
    email = forms.CharField(
        label="Email",
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "username", "autofocus": True}),
    )
    password = _password("Password", new=False)


class _Filter(_Form):
    q = forms.CharField(
        label="Search", required=False, max_length=100, widget=forms.TextInput(attrs={"type": "search"})
    )


class LeadFilter(_Filter):
    status = forms.ChoiceField(label="Status", required=False, choices=[("", "Any"), *LeadStatus.choices])
    billed = forms.ChoiceField(
        label="Billing",
        required=False,
        choices=[
            ("", "Any"),
            ("billable", "Billable now"),
            ("invoiced", "On an invoice"),
            ("no", "Not billable"),
        ],
    )


class CustomerFilter(_Filter):
    pass


class InvoiceFilter(_Filter):
    status = forms.ChoiceField(label="Status", required=False, choices=[("", "Any"), *InvoiceStatus.choices])


class EventFilter(_Form):
    state = forms.ChoiceField(label="State", required=False, choices=[("", "Any"), *EventState.choices])


class DisputeFilter(_Filter):
    state = forms.ChoiceField(label="State", required=False, choices=[("", "Any"), *DisputeState.choices])


class DisputeForm(_Form):
    """The client's own words."""

    claim = forms.CharField(
        label="Why should this lead not be charged?",
        max_length=LONGEST_WORDS,
        widget=forms.Textarea(attrs={"rows": 6}),
        help_text=f"In your own words, at most {LONGEST_WORDS:,} characters. Your provider reads them.",
    )


class WindowForm(_Form):
    """`window` after validation; the last 30 days when nothing is given."""

    range = forms.ChoiceField(
        label="Window",
        required=False,
        choices=[
            ("d7", "Last 7 days"),
            ("d30", "Last 30 days"),
            ("d90", "Last 90 days"),
            ("all", "Last 365 days"),
            ("dates", "These days"),
        ],
    )
    start = forms.CharField(
        label="First day", required=False, max_length=10, widget=forms.TextInput(attrs={"type": "date"})
    )
    end = forms.CharField(
        label="Last day", required=False, max_length=10, widget=forms.TextInput(attrs={"type": "date"})
    )

    def clean(self) -> dict[str, Any]:
        cleaned = {name: value or None for name, value in self.cleaned_data.items()}
        if cleaned.get("range") not in {None, "dates"} and (cleaned.get("start") or cleaned.get("end")):
            raise forms.ValidationError("Choose “These days” for a first and a last day, or empty both.")
        dates = cleaned.get("range") == "dates" or (not cleaned.get("range") and cleaned.get("start"))
        try:
            cleaned["window"] = _window(cleaned, dates=bool(dates))
        except MoneyError as error:
            raise forms.ValidationError(error.message) from None
        return cleaned

    @property
    def window(self) -> Period:
        """Only of a valid form."""
        window = self.cleaned_data["window"]
        assert isinstance(window, Period)
        return window


def _window(cleaned: dict[str, Any], *, dates: bool) -> Period:
    if dates:
        return parse_window(clock.now(), start=cleaned.get("start") or "", end=cleaned.get("end") or "")
    return parse_window(clock.now(), range_name=cleaned.get("range") or "d30")


class LinesForm(_Form):
    """The leads that a confirmation page showed, as `[[lead id, amount, customer id], …]`; compared, never used."""

    lines = forms.CharField(max_length=900_000, widget=forms.HiddenInput)

    def clean_lines(self) -> list[WantedLine]:
        try:
            rows = json.loads(self.cleaned_data["lines"])
        except (ValueError, RecursionError):
            rows = None
        if not isinstance(rows, list) or not rows or not all(_is_line(row) for row in rows):
            raise forms.ValidationError("This list of leads cannot be read; open the page again.")
        return [WantedLine(*row) for row in rows]


def _is_line(row: object) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and all(type(part) is int and 0 < part < _BIGGEST_ID for part in row)
    )


def lines_text(leads: list[Lead]) -> str:
    """What `LinesForm` reads back."""
    return json.dumps(
        [[lead.pk, lead.price_cents, lead.customer_id] for lead in leads], separators=(",", ":")
    )


class NewPersonForm(_Form):
    email = forms.EmailField(
        label="Email", max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "off"})
    )
    name = forms.CharField(
        label="Name", required=False, max_length=120, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    role = forms.ChoiceField(label="Role", choices=Role.choices, initial=Role.VIEWER)
    password = _password(
        "First password",
        new=True,
        help_text="At least 12 characters. Hand it over in confidence; it can be changed under Account.",
    )


class RoleForm(_Form):
    role = forms.ChoiceField(label="Role", choices=Role.choices)


class NewPasswordForm(_Form):
    """`again` must repeat `password`."""

    password = _password("New password", new=True, help_text="At least 12 characters, and not a common one.")
    again = _password("New password, once more", new=True)

    def clean_again(self) -> str:
        again = str(self.cleaned_data["again"])
        if again != self.cleaned_data.get("password", again):
            raise forms.ValidationError("The two new passwords are not the same.")
        return again


class ChangePasswordForm(NewPasswordForm):
    current = _password("Current password", new=False)
    field_order = ("current", "password", "again")


class InviteForm(_Form):
    """What the code is good for, and how long."""

    minutes = forms.TypedChoiceField(
        label="Good for",
        coerce=int,
        choices=[(15, "15 minutes"), (60, "1 hour"), (1_440, "1 day")],
        initial=60,
    )
    scope = forms.ChoiceField(
        label="The portal's key may",
        choices=[("provider", "act and read"), ("read", "only read")],
        initial="provider",
        help_text="A later key of the same portal can never do more.",
    )


class PolicyForm(_Form):
    """The owner's word to the provider."""

    frozen = forms.BooleanField(
        label="Freeze: refuse every call",
        required=False,
        help_text="The portal learns that it is frozen, and nothing else.",
    )
    may_draft = forms.BooleanField(label="The provider may draft invoices", required=False)
    may_send = forms.BooleanField(label="The provider may send invoices", required=False)
    daily_limit = forms.DecimalField(
        label="At most a day",
        required=False,
        min_value=Decimal(0),
        max_digits=12,
        decimal_places=3,
        help_text="For what is drafted and for what is sent, each by itself, per day (UTC). Empty: no limit.",
    )
    currency = forms.ChoiceField(
        label="Currency of the limit",
        choices=[(code.lower(), code) for code in sorted(EXPONENTS)],
        help_text="While there is a limit, amounts in other currencies are refused.",
    )

    @staticmethod
    def initial_of(policy: ProviderPolicy) -> dict[str, Any]:
        names = ("frozen", "may_draft", "may_send", "currency")
        cents = policy.daily_limit_cents
        limit = None if cents is None else to_decimal(cents, policy.currency)
        return {**{name: getattr(policy, name) for name in names}, "daily_limit": limit}

    def changes(self) -> dict[str, Any]:
        """As the service takes them; only of a valid form."""
        data = dict(self.cleaned_data)
        limit = data.pop("daily_limit")
        cents = None if limit is None else round_half_up(limit, data["currency"])
        return {**data, "daily_limit_cents": cents}
