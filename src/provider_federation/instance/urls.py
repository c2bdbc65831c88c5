"""Every address of the instance, in one place."""

from __future__ import annotations

from django.urls import include, path

from provider_federation.instance import health
from provider_federation.instance.api import api, openapi
from provider_federation.instance.pages import errors

urlpatterns = [
    path("health/live", health.live, name="live"),
    path("health/ready", health.ready, name="ready"),
    path("api/openapi.json", openapi, name="openapi"),
    path("api/", api.urls),
    path("", include("provider_federation.instance.pages.urls")),
]

handler400 = errors.handler400
handler403 = errors.handler403
handler404 = errors.handler404
handler500 = errors.handler500
