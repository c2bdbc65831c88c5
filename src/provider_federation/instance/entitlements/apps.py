from typing import Any

from django.apps import AppConfig
from django.db.models.signals import pre_save


class EntitlementsConfig(AppConfig):
    name = "provider_federation.instance.entitlements"
    label = "entitlements"

    def ready(self) -> None:
        pre_save.connect(_keep_to_users, sender="people.Person", dispatch_uid="entitlements.keep_to_users")


def _keep_to_users(instance: Any, *, raw: bool, update_fields: Any, **_signal: Any) -> None:
    # People stand below this room and know nothing of plans; how many may sign in is kept here.
    from provider_federation.instance.entitlements.services import check_users

    if not raw and instance.is_active and (update_fields is None or "is_active" in update_fields):
        check_users(instance)
