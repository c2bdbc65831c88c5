from django.apps import AppConfig


class SubscriptionsConfig(AppConfig):
    name = "provider_federation.portal.subscriptions"
    label = "subscriptions"
