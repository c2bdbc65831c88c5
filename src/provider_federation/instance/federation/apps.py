from django.apps import AppConfig


class FederationConfig(AppConfig):
    name = "provider_federation.instance.federation"
    label = "federation"
