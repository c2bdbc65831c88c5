from django.apps import AppConfig


class LeadsConfig(AppConfig):
    name = "provider_federation.instance.leads"
    label = "leads"
