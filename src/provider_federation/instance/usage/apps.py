from django.apps import AppConfig


class UsageConfig(AppConfig):
    name = "provider_federation.instance.usage"
    label = "usage"
