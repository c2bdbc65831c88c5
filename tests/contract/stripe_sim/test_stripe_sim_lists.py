"""Lists: newest first, cursors that lose and repeat nothing, filters."""

from __future__ import annotations

import pytest
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.stripe_sim import flows
from tests.contract.stripe_sim.conformance import client
from tests.contract.stripe_sim.sim_tools import raw

from provider_federation.testing.stripe_sim import Running

KEY = "sk_test_lists"


@pytest.fixture(scope="module")
def many(sim: Running) -> list[str]:
    api = client(sim.url, KEY)
    return [api.v1.customers.create({"name": f"C{number}"}).id for number in range(23)][::-1]


@given(limit=st.integers(1, 30))
@settings(max_examples=12, deadline=None)
def test_pages_forward_show_each_once_newest_first(sim: Running, many: list[str], limit: int) -> None:
    api = client(sim.url, KEY)
    assert [row.id for row in api.v1.customers.list({"limit": limit}).auto_paging_iter()] == many


@given(limit=st.integers(1, 30), start=st.integers(0, 22))
@settings(max_examples=20, deadline=None)
def test_a_cursor_in_either_direction_is_a_slice(
    sim: Running, many: list[str], limit: int, start: int
) -> None:
    api = client(sim.url, KEY)
    after = api.v1.customers.list({"limit": limit, "starting_after": many[start]})
    assert [row.id for row in after.data] == many[start + 1 : start + 1 + limit]
    assert after.has_more == (len(many) > start + 1 + limit)
    before = api.v1.customers.list({"limit": limit, "ending_before": many[start]})
    assert [row.id for row in before.data] == many[max(0, start - limit) : start]
    assert before.has_more == (start > limit)


def test_a_row_added_meanwhile_disturbs_no_cursor(api: stripe.StripeClient) -> None:
    old = [api.v1.customers.create({}).id for _ in range(4)][::-1]
    first = api.v1.customers.list({"limit": 2})
    api.v1.customers.create({})
    rest = api.v1.customers.list({"limit": 2, "starting_after": first.data[-1].id})
    assert [row.id for row in [*first.data, *rest.data]] == old


@pytest.mark.parametrize(
    "form",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "starting_after=cus_no",
        "starting_after=a&ending_before=b",
        "nope=1",
    ],
)
def test_bad_cursors_are_refused(sim: Running, key: str, form: str) -> None:
    status, _, body = raw(sim.url, key, "GET", "/v1/customers", form)
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


def test_invoices_by_customer_status_method_and_time(api: stripe.StripeClient) -> None:
    ada, eve = flows.customer(api), flows.customer(api)
    draft, opened = flows.draft(api, ada.id, 100), flows.opened(api, ada.id, 1000)
    flows.draft(api, eve.id, 100, collection_method="charge_automatically")

    def ids(**wanted: object) -> list[str]:
        return [row.id for row in api.v1.invoices.list(wanted).data]

    assert ids(customer=ada.id) == [opened.id, draft.id]
    assert ids(customer=ada.id, status="open") == [opened.id]
    assert ids(customer=ada.id, collection_method="charge_automatically") == []
    assert set(ids(created={"gte": draft.created})) >= {draft.id, opened.id}
    assert ids(created={"gt": opened.created + 10}) == []
    assert ids(created=1) == []


def test_250_lines_are_paged(api: stripe.StripeClient) -> None:
    invoice = flows.draft(api, flows.customer(api).id, *range(1, 251))
    assert invoice.total == sum(range(1, 251))
    assert (len(invoice.lines.data), invoice.lines.has_more) == (10, True)
    amounts = [
        line.amount for line in api.v1.invoices.line_items.list(invoice.id, {"limit": 100}).auto_paging_iter()
    ]
    assert amounts == list(range(1, 251))
    with pytest.raises(stripe.InvalidRequestError, match="from 1 to 250"):
        api.v1.invoices.add_lines(invoice.id, {"lines": [{"amount": 1}] * 251})


def test_accounts_do_not_see_each_other(sim: Running, key: str) -> None:
    mine, other = client(sim.url, key), client(sim.url, key + "other")
    customer = mine.v1.customers.create({})
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        other.v1.customers.retrieve(customer.id)
    assert other.v1.customers.list().data == []
    assert mine.v1.accounts.retrieve_current().id != other.v1.accounts.retrieve_current().id
