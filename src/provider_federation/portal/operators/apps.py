from django.apps import AppConfig


class OperatorsConfig(AppConfig):
    name = "provider_federation.portal.operators"
    label = "operators"

    def ready(self) -> None:
        from provider_federation.portal.operators import signals  # noqa: F401  connecting the receivers is its import
