"""The addresses of the operators' pages."""

from __future__ import annotations

from django.urls import path

from provider_federation.portal.dashboard.views import (
    instances,
    invoices,
    keys,
    overview,
    people,
    records,
    revenue,
    runs,
    subscriptions,
)

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("instances/", instances.instances, name="instances"),
    path("instances/add/", instances.add_instance, name="add-instance"),
    path("instances/<uuid:instance_id>/", instances.instance, name="instance"),
    path("instances/<uuid:instance_id>/state/", instances.instance_state, name="instance-state"),
    path("instances/<uuid:instance_id>/edit/", instances.edit_instance, name="edit-instance"),
    path("instances/<uuid:instance_id>/key/", instances.replace_key, name="replace-key"),
    path("instances/<uuid:instance_id>/keys/", keys.keys, name="instance-keys"),
    path("instances/<uuid:instance_id>/keys/enrol/", keys.enrol, name="enrol-instance"),
    path("instances/<uuid:instance_id>/keys/make/", keys.make, name="make-key"),
    path("instances/<uuid:instance_id>/keys/confirm/", keys.confirm, name="confirm-key"),
    path("instances/<uuid:instance_id>/keys/rotate/", keys.rotate, name="rotate-key"),
    path("instances/<uuid:instance_id>/keys/<uuid:key>/revoke/", keys.revoke, name="revoke-key"),
    path("instances/<uuid:instance_id>/ratchet/reset/", keys.reset_ratchet, name="reset-ratchet"),
    path("instances/<uuid:instance_id>/switch/", instances.switch_instance, name="switch-instance"),
    path("instances/<uuid:instance_id>/check/", instances.check_instance, name="check-instance"),
    path("runs/", runs.runs, name="runs"),
    path("runs/new/", runs.new_run, name="new-run"),
    path("runs/<uuid:run_id>/", runs.run, name="run"),
    path("runs/<uuid:run_id>/progress/", runs.run_progress, name="run-progress"),
    path("runs/<uuid:run_id>/cancel/", runs.cancel, name="cancel-run"),
    path("runs/<uuid:run_id>/retry/", runs.retry, name="retry-run"),
    path("invoices/", invoices.invoices, name="invoices"),
    path("invoices/invoices.csv", invoices.export, name="invoices-csv"),
    path("subscriptions/", subscriptions.subscriptions, name="subscriptions"),
    path("subscriptions/add/", subscriptions.add_subscription, name="add-subscription"),
    path("subscriptions/<uuid:subscription_id>/", subscriptions.subscription, name="subscription"),
    path(
        "subscriptions/<uuid:subscription_id>/cancel/",
        subscriptions.cancel_subscription,
        name="cancel-subscription",
    ),
    path("revenue/", revenue.revenue, name="revenue"),
    path("revenue/now/", revenue.revenue_now, name="revenue-now"),
    path("revenue/<uuid:instance_id>/<slug:period>/", revenue.client_revenue, name="client-revenue"),
    path(
        "revenue/<uuid:instance_id>/<slug:period>/now/", revenue.client_revenue_now, name="client-revenue-now"
    ),
    path(
        "revenue/<uuid:instance_id>/<slug:period>/invoice/",
        revenue.make_usage_invoice,
        name="make-usage-invoice",
    ),
    path("usage-invoices/", revenue.usage_invoices, name="usage-invoices"),
    path("usage-invoices/<uuid:invoice_id>/", revenue.usage_invoice, name="usage-invoice"),
    path(
        "usage-invoices/<uuid:invoice_id>/release/",
        revenue.release_usage_invoice,
        name="release-usage-invoice",
    ),
    path("webhooks/", revenue.webhooks, name="webhooks"),
    path("webhooks/<int:event_id>/retry/", revenue.retry_webhook, name="retry-webhook"),
    path("webhooks/alerts/<int:alert_id>/resolve/", revenue.resolve_alert, name="resolve-alert"),
    path("operators/", people.operators, name="operators"),
    path("operators/add/", people.add_operator, name="add-operator"),
    path("operators/<int:operator_id>/", people.edit_operator, name="edit-operator"),
    path("operators/<int:operator_id>/password/", people.set_password, name="set-password"),
    path("operators/tokens/add/", people.add_token, name="add-token"),
    path("operators/tokens/<uuid:token_id>/revoke/", people.revoke_token, name="revoke-token"),
    path("audit/", records.audit, name="audit"),
]
