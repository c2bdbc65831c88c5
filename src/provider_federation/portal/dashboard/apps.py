from django.apps import AppConfig


class DashboardConfig(AppConfig):
    name = "provider_federation.portal.dashboard"
    label = "dashboard"

    def ready(self) -> None:
        from provider_federation.portal.dashboard.admin import settle

        settle()
