from django.apps import AppConfig


class InvoicingConfig(AppConfig):
    name = "provider_federation.instance.invoicing"
    label = "invoicing"
