"""The portal's ASGI application, behind the rim (body limit, request id, access log)."""

from __future__ import annotations

import os
from typing import cast

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "provider_federation.portal.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application

from provider_federation.kit.logs import configure_logs
from provider_federation.kit.web.rim import App, Rim

configure_logs(service="portal", development=settings.DEVELOPMENT)
# Django's own annotation names dict where ASGI, and we, say mapping.
application = Rim(cast("App", get_asgi_application()))
