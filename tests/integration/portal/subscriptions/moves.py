"""What the tests of subscriptions do over and over: subscribe, change, let time pass, hear what Stripe tells."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.integration.portal.revenue.rig import deliver, run_jobs

from provider_federation.portal.subscriptions.models import Subscription

URL = "/api/provider/billing/subscriptions"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Desk:
    """A program at the portal's API, with Stripe's books and clock beside it."""

    def __init__(self, api: Any, books: Any) -> None:
        self.api, self.books = api, books
        self.heard: set[str] = set()

    def subscribe(self, org: str = "org_ada", plan: str = "PRO", **more: Any) -> dict[str, Any]:
        body = {"clientOrgId": org, "planId": plan, "paymentMethodId": "pm_card_visa", **more}
        answer = self.api.post(URL, body, content_type="application/json")
        assert answer.status_code in {200, 201}, answer.json()
        return answer.json()["subscription"]

    def preview(self, subscription: dict[str, Any], plan: str, **more: Any) -> Any:
        path = f"{URL}/{subscription['id']}/preview"
        return self.api.post(path, {"planId": plan, **more}, content_type="application/json")

    def previewed(self, subscription: dict[str, Any], plan: str, **more: Any) -> dict[str, Any]:
        answer = self.preview(subscription, plan, **more)
        assert answer.status_code == 200, answer.json()
        return answer.json()["preview"]

    def put(self, subscription: dict[str, Any], plan: str, **more: Any) -> Any:
        path = f"{URL}/{subscription['id']}"
        return self.api.put(path, {"planId": plan, **more}, content_type="application/json")

    def change(self, subscription: dict[str, Any], plan: str, **more: Any) -> dict[str, Any]:
        answer = self.put(subscription, plan, **more)
        assert answer.status_code in {200, 201}, answer.json()
        return answer.json()

    def shown(self, subscription: dict[str, Any]) -> dict[str, Any]:
        return self.api.get(f"{URL}/{subscription['id']}").json()

    def go(self, text: str) -> None:
        """Time passes for everybody, and what Stripe has to tell arrives."""
        self.books.simulator.control("clock/advance", to=moment(text).isoformat())
        self.hear()

    def hear(self) -> None:
        for fact in self.books.events():
            if fact["id"] not in self.heard:
                self.heard.add(fact["id"])
                assert deliver(self.api, fact).status_code == 200
        assert run_jobs() == []

    def break_card(self) -> None:
        """From now on the client's card is declined."""
        customer = self.books.get("customers")["data"][0]["id"]
        bad = self.books.post("payment_methods/pm_card_chargeCustomerFail/attach", customer=customer)["id"]
        self.books.post(f"customers/{customer}", **{"invoice_settings[default_payment_method]": bad})
        for one in self.books.get("subscriptions")["data"]:
            self.books.post(f"subscriptions/{one['id']}", default_payment_method=bad)

    def pay(self, invoice: str) -> None:
        self.books.post(f"invoices/{invoice}/pay", payment_method="pm_card_visa")
        self.hear()

    def totals(self) -> list[int]:
        """The totals of the subscription's invoices, oldest first, void ones left out."""
        return [one["total"] for one in reversed(self.books.invoices()) if one["status"] != "void"]

    def stripe(self) -> dict[str, Any]:
        stripe_id = Subscription.objects.exclude(stripe_subscription_id=None).get().stripe_subscription_id
        return self.books.get(f"subscriptions/{stripe_id}")
