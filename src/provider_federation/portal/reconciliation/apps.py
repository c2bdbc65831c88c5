from django.apps import AppConfig


class ReconciliationConfig(AppConfig):
    name = "provider_federation.portal.reconciliation"
    label = "reconciliation"
