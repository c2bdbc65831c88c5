"""Django's settings for an instance, all from the environment; docs/architecture.md lists the variables."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from provider_federation.instance.database import database_settings
from provider_federation.kit import clock
from provider_federation.kit.env import ConfigInvalid, Environment
from provider_federation.protocol.config import Configuration, ConfigurationError, read_environment

_env = Environment()
DEVELOPMENT = _env.development
clock.refuse_outside_development(development=DEVELOPMENT)

DATA_DIR = Path(_env.text("INSTANCE_DATA_DIR", ".data/instance")).resolve()


_SHORTEST_SECRET = 32
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _secret(variable: str) -> str:
    """From the environment; in development made once and kept in the data folder, for its owner's eyes only."""
    value = _env.text(variable)
    if value and not DEVELOPMENT and len(value) < _SHORTEST_SECRET:
        message = f"is too short; give at least {_SHORTEST_SECRET} random characters"
        raise ConfigInvalid(variable, message, "config_weak_secret")
    if value:
        return value
    if not DEVELOPMENT:
        raise ConfigInvalid(variable, "is not set; outside development an instance never invents a secret")
    path = DATA_DIR / "development-secrets.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    if variable not in kept:
        kept[variable] = secrets.token_urlsafe(48)
        path.touch(mode=0o600)
        path.write_text(json.dumps(kept))
    return kept[variable]


def _time_zone() -> ZoneInfo:
    name = _env.text("PROVIDER_TIME_ZONE", "UTC")
    if name not in available_timezones():
        raise ConfigInvalid("PROVIDER_TIME_ZONE", "must be an IANA time zone, such as UTC or Europe/Berlin")
    return ZoneInfo(name)


def _plan() -> str:
    plan = _env.text("INSTANCE_PLAN", "BASE").upper()
    if plan not in {"BASE", "PRO", "ELITE"}:
        raise ConfigInvalid("INSTANCE_PLAN", "must be BASE, PRO or ELITE")
    return plan


def _address(variable: str, default: str = "") -> str:
    """Outside development only https, or this machine: sessions and Stripe's key go over no open line."""
    address = _env.text(variable, default).rstrip("/")
    parts = urlsplit(address)
    if address and not (parts.scheme in {"https", "http"} and parts.hostname):
        raise ConfigInvalid(variable, "must be an address such as https://app.example.com")
    if parts.scheme == "http" and not DEVELOPMENT and parts.hostname not in _LOOPBACK:
        raise ConfigInvalid(variable, "must begin with https:// outside development")
    return address


SECRET_KEY = _secret("INSTANCE_SECRET_KEY")
DEBUG = False
BASE_URL = _address("INSTANCE_BASE_URL", "http://127.0.0.1:8100")
_HOST = urlsplit(BASE_URL).hostname
if not _HOST:
    raise ConfigInvalid("INSTANCE_BASE_URL", "must be an address such as https://app.example.com")
ALLOWED_HOSTS = [_HOST, *(["127.0.0.1", "localhost", "[::1]"] if DEVELOPMENT else [])]
SECURE = BASE_URL.startswith("https://")
CSRF_TRUSTED_ORIGINS = [BASE_URL] if SECURE else []

# How many proxies in front add to X-Forwarded-For; without one the limit on guessing knows one address for all.
TRUSTED_PROXIES = _env.integer("INSTANCE_TRUSTED_PROXIES", 0, low=0, high=5)

INSTANCE_NAME = _env.text("INSTANCE_NAME", "instance")
INSTANCE_ORG_ID = _env.text("INSTANCE_ORG_ID", INSTANCE_NAME)
INSTANCE_TITLE = _env.text("INSTANCE_TITLE", "Client instance")
INSTANCE_PLAN = (
    _plan()
)  # what the client bought, as long as the provider's portal has not said what it may use
INSTANCE_AI_CAP_CENTS = _env.integer("INSTANCE_AI_CAP_CENTS", 5_000, low=0, high=10_000_000)
PROVIDER_ZONE = _time_zone()  # the billing months' zone (money rule 3)


def _federation() -> Configuration:
    """With this instance's name and org, so that a key and a request are bound to them also where they are
    defaults.
    """
    try:
        return read_environment(
            {**_env.values, "INSTANCE_NAME": INSTANCE_NAME, "INSTANCE_ORG_ID": INSTANCE_ORG_ID}
        )
    except ConfigurationError as error:
        raise ConfigInvalid(
            error.variable, str(error).removeprefix(f"{error.variable}: "), error.code
        ) from None


FEDERATION = _federation()

STRIPE_SECRET_KEY = _env.text("STRIPE_SECRET_KEY")
STRIPE_WEBHOOK_SECRET = _env.text("STRIPE_WEBHOOK_SECRET")
STRIPE_ACCOUNT_ID = _env.text("STRIPE_ACCOUNT_ID")
STRIPE_API_BASE = _address("STRIPE_API_BASE")  # the simulator's address; empty means Stripe itself
if STRIPE_SECRET_KEY and not STRIPE_WEBHOOK_SECRET.strip(", ") and not DEVELOPMENT:
    raise ConfigInvalid(
        "STRIPE_WEBHOOK_SECRET", "is not set; without it paid invoices would never be noticed"
    )

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "provider_federation.instance.people",
    "provider_federation.instance.leads",
    "provider_federation.instance.invoicing",
    "provider_federation.instance.entitlements",
    "provider_federation.instance.usage",
    "provider_federation.instance.disputes",
    "provider_federation.instance.federation",
    "provider_federation.instance.pages",
]
MIDDLEWARE = [
    "provider_federation.instance.middleware.SecurityHeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    # Inside what sets headers, outside what refuses.
    "provider_federation.kit.web.errors.ApiErrorsMiddleware",
    "provider_federation.instance.federation.middleware.ProviderMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "provider_federation.instance.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "provider_federation.instance.pages.context.instance",
            ],
        },
    },
]
DATABASE_URL = _env.text("DATABASE_URL")
DATABASES = {"default": database_settings(_env, DATA_DIR)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "sign_in"
CSRF_FAILURE_VIEW = "provider_federation.instance.pages.errors.csrf_failed"
AUTH_USER_MODEL = "people.Person"
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
STATIC_URL = "/static/"
STATICFILES_DIRS = [Path(__file__).parent / "static"]
WHITENOISE_USE_FINDERS = True  # serves straight from the packages; nothing has to be collected first

# By name: in development several instances share a host, and cookies know no ports.
SESSION_COOKIE_NAME = "__Host-instance" if SECURE else f"instance-{INSTANCE_NAME}"
CSRF_COOKIE_NAME = "__Host-instance-csrf" if SECURE else f"instance-csrf-{INSTANCE_NAME}"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SESSION_COOKIE_AGE = 43_200  # twelve hours: a working day, then the password again
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
# The proxy in front redirects to https; a redirect here would loop behind one that speaks HTTP.
SECURE_SSL_REDIRECT = False
# That redirect; and subdomains and preloading, which bind more than this host (kit/web/headers.py).
SILENCED_SYSTEM_CHECKS = ["security.W008", "security.W005", "security.W021"]
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576  # as the rim's limit
LOGGING_CONFIG = None  # kit.logs configures both structlog and the standard library, once per process
