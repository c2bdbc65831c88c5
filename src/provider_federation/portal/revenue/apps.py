from django.apps import AppConfig


class RevenueConfig(AppConfig):
    name = "provider_federation.portal.revenue"
    label = "revenue"
