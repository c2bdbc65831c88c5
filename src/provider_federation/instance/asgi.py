"""The instance's ASGI application: the rim, then the federation gate, then Django."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "provider_federation.instance.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application

from provider_federation.kit.logs import configure_logs
from provider_federation.kit.web.rim import Rim

configure_logs(service="instance", development=settings.DEVELOPMENT)
_django = get_asgi_application()

# ruff: noqa: E402  these read the settings that Django has loaded
from provider_federation.instance.federation.asgi import FederationGate
from provider_federation.instance.middleware import HeadersAtTheRim
from provider_federation.instance.pages.errors import too_large_page

application = HeadersAtTheRim(
    Rim(
        FederationGate(_django),  # type: ignore[arg-type]  # django-stubs have narrower mappings than ASGI
        too_large=too_large_page,
    )
)
