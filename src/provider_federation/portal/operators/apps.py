from django.apps import AppConfig


class OperatorsConfig(AppConfig):
    name = "provider_federation.portal.operators"
    label = "operators"
