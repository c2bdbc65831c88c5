from django.apps import AppConfig


class RevenueConfig(AppConfig):
    name = "provider_federation.portal.revenue"
    label = "revenue"

    def ready(self) -> None:
        from django.conf import settings

        from provider_federation.portal.revenue.services.pace import DatabasePace
        from provider_federation.portal.subscriptions.account import pace_calls

        if settings.STRIPE_CALLS_A_SECOND:
            pace_calls(lambda key: DatabasePace(key, settings.STRIPE_CALLS_A_SECOND))
