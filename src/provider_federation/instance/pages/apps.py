from django.apps import AppConfig


class PagesConfig(AppConfig):
    name = "provider_federation.instance.pages"
    label = "pages"
