"""The instance's ASGI application: the rim, then the federation gate, then Django."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "provider_federation.instance.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application

from provider_federation.kit import clock
from provider_federation.kit.logs import configure_logs, get_logger
from provider_federation.kit.web.rim import Rim

configure_logs(service="instance", development=settings.DEVELOPMENT)
_django = get_asgi_application()

# After Django: these read its settings.
# ruff: noqa: E402
from provider_federation.adapters.asgi import FederationMiddleware
from provider_federation.instance.federation.replay import replay_store
from provider_federation.instance.middleware import HeadersAtTheRim
from provider_federation.instance.pages.errors import too_large_page

_log = get_logger("federation")
_federation = settings.FEDERATION
application = HeadersAtTheRim(
    Rim(
        FederationMiddleware(
            _django,  # type: ignore[arg-type]  # django-stubs have narrower mappings than ASGI
            keyring=_federation.keyring,
            policy=_federation.policy,
            replay=replay_store(),
            now=clock.timestamp,
            enabled=_federation.enabled,
            on_refused=lambda code, facts: _log.warning("refused", code=code, **facts),
        ),
        too_large=too_large_page,
    )
)
