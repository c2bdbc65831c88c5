from django.apps import AppConfig


class DirectoryConfig(AppConfig):
    name = "provider_federation.portal.directory"
    label = "directory"
