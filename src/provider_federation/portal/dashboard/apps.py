from django.apps import AppConfig


class DashboardConfig(AppConfig):
    name = "provider_federation.portal.dashboard"
    label = "dashboard"
