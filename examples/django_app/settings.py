"""A small Django project of leads and invoices; federating it took the lines that end in `# federation`."""

import os

from provider_federation.adapters.environment import gate_from_environment  # federation

SECRET_KEY = os.environ.get("SECRET_KEY", "only on a developer's machine")
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
MIDDLEWARE = [
    "provider_federation.adapters.django.FederationMiddleware",  # federation
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
PROVIDER_FEDERATION_GATE = gate_from_environment()  # federation
