"""Every address of the portal, in one place."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from provider_federation.kit.web.errors import handler400, handler403, handler404, handler500
from provider_federation.portal import health
from provider_federation.portal.api import api

__all__ = ["handler400", "handler403", "handler404", "handler500", "urlpatterns"]

urlpatterns = [
    path("health/live", health.live, name="live"),
    path("health/ready", health.ready, name="ready"),
    path("metrics", health.metrics, name="metrics"),
    path("api/", api.urls),
    path("accounts/", include("provider_federation.portal.operators.urls")),
    path("", include("provider_federation.portal.dashboard.urls")),
    path("admin/", RedirectView.as_view(pattern_name="overview")),
    path("admin/login/", RedirectView.as_view(pattern_name="account_login", query_string=True)),
    path("admin/logout/", RedirectView.as_view(pattern_name="account_logout")),
    path("admin/password_change/", RedirectView.as_view(pattern_name="account_change_password")),
    path("admin/", admin.site.urls),
]
