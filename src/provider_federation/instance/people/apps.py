from django.apps import AppConfig


class PeopleConfig(AppConfig):
    name = "provider_federation.instance.people"
    label = "people"
