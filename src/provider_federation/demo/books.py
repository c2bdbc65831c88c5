"""The three books, read from where each is kept: Stripe (by its key), the instance (by a signed call), the
portal (by its API).
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from provider_federation.adapters.signing import Signer
from provider_federation.demo.client import Client, refusal
from provider_federation.demo.plan import InstancePlan
from provider_federation.demo.processes import run_to_end
from provider_federation.kit import clock
from provider_federation.protocol import Request
from provider_federation.stripe_account import StripeAccount, StripeInvoice

_TIMEOUT = 30.0


@dataclass(frozen=True)
class Sums:
    """Finalised invoices of one book: how many, and billed and paid in cents. Drafts and voided ones are
    not in it.
    """

    count: int
    billed: int
    paid: int

    def __str__(self) -> str:
        return f"{self.count} invoices, {dollars(self.billed)} billed, {dollars(self.paid)} paid"


def dollars(cents: int) -> str:
    """`$1,234.56`."""
    return f"${cents // 100:,}.{cents % 100:02}"


def _sums(amounts: Iterable[tuple[str, int, int]]) -> Sums:
    final = [
        (billed, paid) for status, billed, paid in amounts if status in {"open", "paid", "uncollectible"}
    ]
    return Sums(len(final), sum(billed for billed, _ in final), sum(paid for _, paid in final))


def stripe_book(account: StripeAccount, *, subscriptions: bool = True) -> Sums:
    """What an account's invoices say; `subscriptions=False` leaves out those that a subscription made."""
    found: list[StripeInvoice] = account.list_invoices()
    chosen = [one for one in found if subscriptions or one.subscription_id is None]
    return _sums((one.status, one.total, one.amount_paid) for one in chosen)


class InstanceBook:
    """An instance, asked as a portal asks it, from outside the portal: signed, and its answers verified."""

    def __init__(self, instance: InstancePlan) -> None:
        self._instance = instance

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        target = path + ("?" + urlencode(query) if query else "")
        plan = self._instance
        signer = Signer(plan.key, plan.name, plan.org, plan.scope, plan.answers, clock.timestamp)
        signed = signer.sign(Request("GET", target, urlsplit(plan.base_url).netloc, [], b""))
        address = urllib.request.Request(plan.base_url + target, headers=dict(signed.headers))
        try:
            with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer:
                body = answer.read()
                signer.check(signed, answer.status, answer.headers.items(), body)
                value: dict[str, Any] = json.loads(body)
                return value
        except urllib.error.HTTPError as error:
            raise refusal(f"{plan.name}: GET {target}", error) from None

    def invoices(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.get("/api/billing/list", limit=200, **cursor)
            items += page["items"]
            if not page.get("nextCursor"):
                return items
            cursor = {"cursor": page["nextCursor"]}

    def sums(self) -> Sums:
        return _sums((one["status"], one["totalCents"], one["amountPaidCents"]) for one in self.invoices())

    def paid(self) -> int:
        """Cents that its customers have paid, as far as it knows."""
        return self.sums().paid

    def usage(self, month: str) -> tuple[list[str], str, int]:
        """Ids of the leads converted in a month, the exact AI cost (a decimal as text), and the cap in cents."""
        leads: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            answer = self.get("/api/provider/usage", period=month, limit=200, **cursor)
            leads += [lead["leadId"] for lead in answer["leads"]["items"]]
            if not answer["leads"].get("nextCursor"):
                return leads, answer["ai"]["cost"], answer["ai"]["capCents"]
            cursor = {"cursor": answer["leads"]["nextCursor"]}


def signed_by_hand(instance: InstancePlan, target: str) -> dict[str, Any]:
    """GET with the headers that `provider-federation sign` prints, as curl would send them."""
    address = instance.base_url + target
    key = instance.key
    command = ["sign", "GET", address, "--key-id", key.id, "--algorithm", key.algorithm, "--scope", key.scope]
    command += ["--instance", instance.name]
    environment = {"PROVIDER_SECRET": instance.secret, "PROVIDER_FEDERATION_ENV": "development"}
    printed = run_to_end("sign", command, environment)
    headers = dict(line.split(": ", 1) for line in printed.splitlines())
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=_TIMEOUT) as answer:
        value: dict[str, Any] = json.load(answer)
        return value


def portal_book(portal: Client, instance_id: str) -> Sums:
    """The portal's mirror of one instance's invoices."""
    items = portal.pages("/api/provider/invoices", instanceId=instance_id, limit=200)
    return _sums((one["status"], one["totalCents"], one["amountPaidCents"]) for one in items)


def portal_ledger(portal: Client) -> Sums:
    """What the portal says the clients were billed and paid: usage and subscription invoices alike."""
    totals = portal.get("/api/provider/billing/ledger")["totals"]
    dollars_only = [entry for entry in totals if entry["currency"].lower() == "usd"]
    return Sums(
        sum(entry["invoices"] for entry in dollars_only),
        sum(entry["grossCents"] for entry in dollars_only),
        sum(entry["paidCents"] for entry in dollars_only),
    )
