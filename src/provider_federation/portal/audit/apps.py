from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "provider_federation.portal.audit"
    label = "audit"
