"""The addresses of the operators' pages."""

from __future__ import annotations

from django.urls import path

from provider_federation.portal.dashboard.views import instances, invoices, people, records, runs

urlpatterns = [
    path("instances/", instances.instances, name="instances"),
    path("instances/add/", instances.add_instance, name="add-instance"),
    path("instances/<uuid:instance_id>/", instances.instance, name="instance"),
    path("instances/<uuid:instance_id>/state/", instances.instance_state, name="instance-state"),
    path("instances/<uuid:instance_id>/edit/", instances.edit_instance, name="edit-instance"),
    path("instances/<uuid:instance_id>/key/", instances.replace_key, name="replace-key"),
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
    path("operators/", people.operators, name="operators"),
    path("operators/add/", people.add_operator, name="add-operator"),
    path("operators/<int:operator_id>/", people.edit_operator, name="edit-operator"),
    path("operators/<int:operator_id>/password/", people.set_password, name="set-password"),
    path("operators/tokens/add/", people.add_token, name="add-token"),
    path("operators/tokens/<uuid:token_id>/revoke/", people.revoke_token, name="revoke-token"),
    path("audit/", records.audit, name="audit"),
]
