from django.apps import AppConfig


class FleetConfig(AppConfig):
    name = "provider_federation.portal.fleet"
    label = "fleet"
