"""The pages' forms. They only read what was typed; the services decide what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator

from provider_federation.money import PLANS, format_amount, round_half_up, to_decimal
from provider_federation.money.amount import EXPONENTS
from provider_federation.money.period import month_name
from provider_federation.portal.directory.keys import NewKey
from provider_federation.portal.directory.models import Algorithm, Instance, Scope
from provider_federation.portal.operators.permissions import Role
from provider_federation.portal.subscriptions.ai_terms import MARKUP_PLACES, MOST_MARKUP, AiTerms


def _currencies() -> list[tuple[str, str]]:
    return [(code.lower(), code) for code in sorted(EXPONENTS)]


def _plans() -> list[tuple[str, str]]:
    return [
        (plan.code, f"{plan.name}, {format_amount(plan.fee_cents, plan.currency)} a month")
        for plan in PLANS.values()
    ]


_DAY = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")


class OperatorForm(forms.Form):
    """A new operator."""

    email = forms.EmailField(label="Email address", max_length=254)
    name = forms.CharField(label="Name", max_length=120, required=False)
    role = forms.ChoiceField(label="Role", choices=Role.choices, initial=Role.SUPPORT)
    password = forms.CharField(
        label="Password",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 12 characters. Hand it over safely; they can change it under Account.",
    )


class OperatorEditForm(forms.Form):
    """Name, role and whether the operator may sign in."""

    name = forms.CharField(label="Name", max_length=120, required=False)
    role = forms.ChoiceField(
        label="Role",
        choices=Role.choices,
        help_text="A new role ends the operator's sessions; they sign in again.",
    )
    is_active = forms.BooleanField(label="May sign in", required=False)


class PasswordForm(forms.Form):
    """A new password for somebody who lost theirs."""

    password = forms.CharField(
        label="New password",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 12 characters. Every session of the operator ends.",
    )


class TokenForm(forms.Form):
    """A new API token."""

    name = forms.CharField(
        label="Name", max_length=80, help_text="What will use it, for instance nightly-report."
    )
    role = forms.ChoiceField(label="Role", choices=Role.choices, initial=Role.SUPPORT)
    expires = forms.DateField(
        label="Valid until",
        required=False,
        widget=_DAY,
        validators=[MaxValueValidator(date(9000, 1, 1))],
        help_text="The last day, in UTC. Empty: until revoked.",
    )

    @property
    def expires_at(self) -> datetime | None:
        """The end of the last day."""
        day: Any = self.cleaned_data.get("expires")
        return datetime.combine(day, time(), UTC) + timedelta(days=1) if day else None


class _ResponseKeyFields(forms.Form):
    response_key_id = forms.CharField(
        label="Id of the instance's response key",
        max_length=128,
        required=False,
        help_text="What an ed25519 instance signs its answers with. Empty: as it is known.",
    )
    response_public_key = forms.CharField(
        label="Public half of the response key",
        max_length=44,
        required=False,
        help_text="32 bytes in base64.",
    )

    def response_key(self) -> tuple[str, str]:
        """Id and public key as the services take them; after `is_valid`."""
        return self.cleaned_data["response_key_id"], self.cleaned_data["response_public_key"]


class _SeenVersion(forms.Form):
    version = forms.IntegerField(widget=forms.HiddenInput, min_value=1, max_value=2_147_483_647)


class ConfirmKeyForm(_SeenVersion, _ResponseKeyFields):
    """The waiting key is at the instance."""


class CodeForm(_SeenVersion):
    """The code that the instance's owner gave us."""

    code = forms.CharField(
        label="Enrolment code",
        max_length=80,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="From the instance's Federation page (or its command “instance invite”): good once, for a while.",
    )


class _KeyFields(forms.Form):
    key_id = forms.CharField(
        label="Key id", max_length=128, help_text="As in the instance's PROVIDER_KEYS_JSON."
    )
    algorithm = forms.ChoiceField(
        label="Algorithm",
        choices=Algorithm.choices,
        initial=Algorithm.HMAC_SHA256,
        help_text="v2 signs the whole request; the legacy ones do not, and h31 works in development only.",
    )
    secret = forms.CharField(
        label="Secret",
        max_length=512,
        strip=False,
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Stored encrypted and never shown again, not even to admins. Ed25519: the seed in base64, or "
        "empty to make a pair.",
    )
    scope = forms.ChoiceField(
        label="May",
        choices=[(Scope.PROVIDER, "act and read"), (Scope.READ, "read only")],
        initial=Scope.PROVIDER,
    )

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        shared = data.get("algorithm") != Algorithm.ED25519
        if data.get("key_id") and shared and not data.get("secret"):
            self.add_error("secret", "This field is required.")
        return data

    def key(self) -> NewKey:
        """As the services take it; after `is_valid`."""
        data = self.cleaned_data
        return NewKey(
            id=data["key_id"], secret=data["secret"], algorithm=data["algorithm"], scope=data["scope"]
        )


class KeyForm(_SeenVersion, _KeyFields, _ResponseKeyFields):
    """A signing key. The secret is taken once and never shown again."""


class _InstanceFields(forms.Form):
    title = forms.CharField(
        label="Name for people", max_length=200, required=False, help_text="What the lists show."
    )
    base_url = forms.CharField(
        label="Base URL",
        max_length=300,
        widget=forms.URLInput(attrs={"placeholder": "https://billing.acme.example", "autocomplete": "off"}),
        help_text="Where it serves its API. Private addresses must be allowed in the portal's settings.",
    )
    environment = forms.CharField(label="Environment", max_length=40, initial="production")
    currency = forms.ChoiceField(label="Billing currency", initial="usd", choices=_currencies)
    ai_cap = forms.DecimalField(
        label="AI cap a month",
        min_value=Decimal(0),
        max_value=Decimal(1_000_000),
        max_digits=12,
        decimal_places=3,
        initial=Decimal("50.00"),
        help_text="At most this much AI usage is passed on, in the billing currency.",
    )
    billing_email = forms.EmailField(
        label="Billing email", required=False, help_text="Where the provider's invoices go."
    )
    notes = forms.CharField(
        label="Notes", max_length=4000, required=False, widget=forms.Textarea(attrs={"rows": 3})
    )

    def fields_of_instance(self) -> dict[str, Any]:
        """As the services take them; after `is_valid`."""
        names = ("title", "base_url", "environment", "currency", "billing_email", "notes")
        data = {name: self.cleaned_data[name] for name in names if name in self.cleaned_data}
        return {**data, "ai_cap_cents": round_half_up(self.cleaned_data["ai_cap"], data["currency"])}


class InstanceForm(_InstanceFields, _KeyFields, _ResponseKeyFields):
    """A new instance: paired by code, with a key, or with neither: then a pair is made for its environment."""

    code = forms.CharField(
        label="Enrolment code",
        max_length=80,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="From the instance's Federation page. With it both sides exchange keys by themselves. With neither "
        "code nor key a pair is made, whose public half you hand to the owner.",
    )
    key_id = forms.CharField(
        label="Key id", max_length=128, required=False, help_text="As in the instance's PROVIDER_KEYS_JSON."
    )
    name = forms.SlugField(
        label="Instance name",
        max_length=63,
        help_text="Lower-case letters, digits and dashes; what it calls itself (INSTANCE_NAME). It stays.",
    )
    org_id = forms.CharField(
        label="Client org id",
        max_length=128,
        help_text="The client's id in its own system (INSTANCE_ORG_ID). It stays.",
    )
    field_order = (
        "name",
        "title",
        "org_id",
        "base_url",
        "code",
        "key_id",
        "algorithm",
        "secret",
        "scope",
        "response_key_id",
        "response_public_key",
        "environment",
        "currency",
        "ai_cap",
        "billing_email",
        "notes",
    )

    BY_HAND = ("key_id", "algorithm", "secret", "scope", "response_key_id", "response_public_key")

    def keyed(self) -> bool:
        """Is a key being typed in? Then its fields stay unfolded."""
        given = any(self.data.get(name) for name in ("key_id", "secret", "response_key_id"))
        return given or any(name in self.errors for name in self.BY_HAND)

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if data.get("code") and data.get("key_id"):
            self.add_error("code", "Give a code or a key, not both.")
        if data.get("secret") and not data.get("key_id"):
            self.add_error("key_id", "A secret belongs to a key id.")
        return data

    def way_in(self) -> dict[str, Any]:
        """Code, key or neither, as `add_instance` takes them; after `is_valid`."""
        key = self.key() if self.cleaned_data["key_id"] else None
        return {"code": self.cleaned_data["code"], "key": key, "response_key": self.response_key()}

    def fields_of_instance(self) -> dict[str, Any]:
        return {
            **super().fields_of_instance(),
            "name": self.cleaned_data["name"],
            "org_id": self.cleaned_data["org_id"],
        }


class InstanceEditForm(_InstanceFields):
    """What may be changed later; `version` is the one that the operator saw."""

    version = forms.IntegerField(widget=forms.HiddenInput, min_value=1, max_value=2_147_483_647)

    @staticmethod
    def initial_of(instance: Instance) -> dict[str, Any]:
        names = ("title", "base_url", "environment", "currency", "billing_email", "notes", "version")
        cap = to_decimal(instance.ai_cap_cents, instance.currency)
        return {**{name: getattr(instance, name) for name in names}, "ai_cap": cap}


class SubscriptionForm(forms.Form):
    """A new subscription of a client that has none."""

    instance = forms.ModelChoiceField(
        label="Client", queryset=Instance.objects.filter(enabled=True), empty_label="Choose a client"
    )
    plan = forms.ChoiceField(label="Plan", choices=_plans, initial="PRO")
    name = forms.CharField(
        label="Billing name", max_length=200, required=False, help_text="Empty: the client's name."
    )
    email = forms.EmailField(
        label="Billing email", required=False, help_text="Empty: the one of the instance."
    )
    payment_method = forms.RegexField(
        label="Stripe payment method",
        regex=r"^pm_[A-Za-z0-9_]{3,120}$",
        required=False,
        help_text="Such as pm_card_visa. Empty: the client gets a link and pays there.",
        error_messages={"invalid": "A payment method's id begins with pm_."},
    )
    trial_days = forms.IntegerField(
        label="Trial, in days",
        min_value=0,
        max_value=730,
        initial=0,
        required=False,
        help_text="Nothing is charged before they are over; the plan is in force from the start.",
    )


class AiTermsForm(forms.Form):
    """Cap and markup of a client's AI usage, from a month on that has not begun; the markup in percent."""

    cap = forms.DecimalField(
        label="Cap a month",
        min_value=Decimal(0),
        max_digits=11,
        decimal_places=3,
        help_text="At most this much AI usage is passed on, in the billing currency.",
    )
    markup = forms.DecimalField(
        label="Markup, in percent",
        min_value=Decimal(0),
        max_value=MOST_MARKUP * 100,
        decimal_places=MARKUP_PLACES - 2,
        help_text="On top of what the usage cost; the cap holds for both together.",
    )
    first_month = forms.ChoiceField(
        label="From", help_text="A month that has begun keeps its terms, and so does every month before it."
    )

    def __init__(self, data: Any, *, months: Sequence[str], **more: Any) -> None:
        super().__init__(data, **more)
        choice = self.fields["first_month"]
        assert isinstance(choice, forms.ChoiceField)
        choice.choices = [(month, month_name(month)) for month in months]

    def terms(self, currency: str) -> AiTerms:
        """As the service takes them; after `is_valid`."""
        data = self.cleaned_data
        return AiTerms(round_half_up(data["cap"], currency), data["markup"] / 100)

    @staticmethod
    def initial_of(terms: AiTerms, currency: str) -> dict[str, Any]:
        return {"cap": to_decimal(terms.cap_cents, currency), "markup": terms.percent}
