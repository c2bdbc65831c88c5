from django.apps import AppConfig


class DisputesConfig(AppConfig):
    name = "provider_federation.instance.disputes"
    label = "disputes"
