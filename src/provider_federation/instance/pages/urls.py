"""The addresses of the pages."""

from __future__ import annotations

from django.urls import path, register_converter

from provider_federation.instance.pages.views import (
    billing,
    disputes,
    events,
    federation,
    invoices,
    leads,
    overview,
    people,
    session,
    usage,
)


class RowId:
    """An id that a column can hold; anything else is a 404."""

    regex = "[1-9][0-9]{0,17}"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


register_converter(RowId, "id")

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("sign-in", session.sign_in, name="sign_in"),
    path("sign-out", session.sign_out, name="sign_out"),
    path("federation", federation.federation, name="federation"),
    path("federation/policy", federation.policy, name="federation_policy"),
    path("federation/invite", federation.invite, name="invite"),
    path("federation/close-enrolment", federation.close_enrolment, name="close_enrolment"),
    path("federation/revoke-key", federation.revoke_key, name="revoke_key"),
    path("federation/reset-ratchet", federation.reset_ratchet, name="reset_ratchet"),
    path("alerts", overview.alerts, name="alerts"),
    path("alerts/apply-events", events.apply_events, name="apply_events"),
    path("stripe-events", events.events, name="stripe_events"),
    path("stripe-events/<id:pk>/retry", events.retry, name="event_retry"),
    path("stripe-events/sweep", events.sweep, name="sweep"),
    path("leads", leads.leads, name="leads"),
    path("leads/<id:pk>", leads.lead, name="lead"),
    path("leads/<id:pk>/convert", leads.convert, name="convert"),
    path("leads/<id:pk>/eligible", leads.eligible, {"wanted": True}, name="eligible"),
    path("leads/<id:pk>/not-eligible", leads.eligible, {"wanted": False}, name="not_eligible"),
    path("leads/<id:pk>/dispute", disputes.dispute, name="dispute"),
    path("disputes", disputes.disputes, name="disputes"),
    path("disputes.csv", disputes.export, name="disputes_csv"),
    path("customers", leads.customers, name="customers"),
    path("billing", billing.billing, name="billing"),
    path("billing/draft", billing.draft, name="draft"),
    path("invoices", invoices.invoices, name="invoices"),
    path("invoices.csv", invoices.export, name="invoices_csv"),
    path("invoices/<id:pk>", invoices.invoice, name="invoice"),
    path("invoices/<id:pk>/send", invoices.send, name="send"),
    path("invoices/<id:pk>/void", invoices.void, name="void"),
    path("usage", usage.usage, name="usage"),
    path("people", people.people, name="people"),
    path("people/add", people.add, name="person_add"),
    path("people/<id:pk>/role", people.role, name="person_role"),
    path("people/<id:pk>/password", people.password, name="person_password"),
    path("people/<id:pk>/activate", people.active, {"wanted": True}, name="person_activate"),
    path("people/<id:pk>/deactivate", people.active, {"wanted": False}, name="person_deactivate"),
    path("account", people.account, name="account"),
]
