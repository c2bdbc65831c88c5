from django.apps import AppConfig


class BillingRunsConfig(AppConfig):
    name = "provider_federation.portal.billing_runs"
    label = "billing_runs"
