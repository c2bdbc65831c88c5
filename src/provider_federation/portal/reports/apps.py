from django.apps import AppConfig


class ReportsConfig(AppConfig):
    name = "provider_federation.portal.reports"
    label = "reports"
