from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_save


class SubscriptionsConfig(AppConfig):
    name = "provider_federation.portal.subscriptions"
    label = "subscriptions"

    def ready(self) -> None:
        post_save.connect(_keep_cap, sender="directory.Instance", dispatch_uid="subscriptions.keep_cap")


def _keep_cap(instance: Any, **_signal: Any) -> None:
    # The directory stands below this room and knows nothing of it; the history of the cap is kept here.
    from provider_federation.portal.subscriptions.ai_terms import note_cap

    note_cap(instance)
