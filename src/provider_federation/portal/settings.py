"""Django's settings for the portal, all from the environment; see docs/operations.md for the table of variables."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from provider_federation.kit import clock
from provider_federation.kit.env import ConfigInvalid, Environment
from provider_federation.kit.secrets import parse_master_keys
from provider_federation.portal.dashboard.theme import UNFOLD  # noqa: F401  Unfold reads it from here
from provider_federation.portal.database import database_settings
from provider_federation.portal.receivables.schedule import parse_schedule

_env = Environment()
DEVELOPMENT = _env.development
clock.refuse_outside_development(development=DEVELOPMENT)

DATA_DIR = Path(_env.text("PORTAL_DATA_DIR", ".data/portal")).resolve()


def _secret(variable: str, make: str) -> str:
    """From the environment; in development made once and kept in the data folder, readable by its owner only."""
    value = _env.text(variable)
    if value:
        return value
    if not DEVELOPMENT:
        raise ConfigInvalid(variable, "is not set; outside development the portal never invents a secret")
    path = DATA_DIR / "development-secrets.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    if variable not in kept:
        kept[variable] = make
        path.touch(mode=0o600)
        path.write_text(json.dumps(kept))
    return kept[variable]


def _random_master_key() -> str:
    import base64

    return "dev1:" + base64.b64encode(secrets.token_bytes(32)).decode()


SECRET_KEY = _secret("PORTAL_SECRET_KEY", secrets.token_urlsafe(48))
if not DEVELOPMENT and (len(SECRET_KEY) < 50 or len(set(SECRET_KEY)) < 5):
    raise ConfigInvalid("PORTAL_SECRET_KEY", "is weak; take 50 random characters", "config_weak_secret")
MASTER_KEYS = parse_master_keys("PORTAL_MASTER_KEYS", _secret("PORTAL_MASTER_KEYS", _random_master_key()))
DEBUG = False
ALLOWED_HOSTS = list(_env.names("PORTAL_ALLOWED_HOSTS")) or (
    ["127.0.0.1", "localhost", "[::1]"] if DEVELOPMENT else []
)
# In the one spelling that browsers send as a form's origin.
BASE_URL = _env.text("PORTAL_BASE_URL", "http://127.0.0.1:8000").rstrip("/").lower()
if not re.fullmatch(r"https?://[^/?#@\s]+", BASE_URL):
    raise ConfigInvalid("PORTAL_BASE_URL", "must be an address such as https://portal.example.com")
CSRF_TRUSTED_ORIGINS = [BASE_URL] if BASE_URL.startswith("https://") else []

# Which hosts beyond the public Internet instances may live on (exact names or addresses); see shim/guard.py.
ALLOWED_PRIVATE_HOSTS = _env.names("PORTAL_ALLOW_PRIVATE_HOSTS")

PROVIDER_STRIPE_SECRET_KEY = _env.text("PROVIDER_STRIPE_SECRET_KEY")
PROVIDER_STRIPE_WEBHOOK_SECRET = _env.text("PROVIDER_STRIPE_WEBHOOK_SECRET")
if not PROVIDER_STRIPE_WEBHOOK_SECRET and "PROVIDER_STRIPE_WEBHOOK_SECRET" in _env.values:
    raise ConfigInvalid(
        "PROVIDER_STRIPE_WEBHOOK_SECRET", "is empty; set the endpoint's signing secret, or leave it out"
    )
if PROVIDER_STRIPE_SECRET_KEY and not PROVIDER_STRIPE_WEBHOOK_SECRET and not DEVELOPMENT:
    raise ConfigInvalid(
        "PROVIDER_STRIPE_WEBHOOK_SECRET", "is not set; without it payments would go unnoticed"
    )
PROVIDER_STRIPE_ACCOUNT_ID = _env.text("PROVIDER_STRIPE_ACCOUNT_ID")
STRIPE_API_BASE = _env.text("STRIPE_API_BASE")  # the simulator's address; empty means Stripe itself
PROVIDER_STRIPE_PRICES = {
    "BASE": _env.text("PROVIDER_STRIPE_BASE_PRICE_ID"),
    "PRO": _env.text("PROVIDER_STRIPE_PRO_PRICE_ID"),
    "ELITE": _env.text("PROVIDER_STRIPE_ELITE_PRICE_ID"),
}
PROVIDER_TIME_ZONE = _env.text(
    "PROVIDER_TIME_ZONE", "UTC"
)  # the billing months' zone (docs/money.md, rule 3)
try:
    ZoneInfo(PROVIDER_TIME_ZONE)
except (ValueError, ZoneInfoNotFoundError):
    raise ConfigInvalid("PROVIDER_TIME_ZONE", "must be an IANA name such as Europe/Berlin") from None
# Months behind the billed one whose usage is read again for what came late (docs/money.md, "Late usage").
BILLING_LATE_MONTHS = _env.integer("PORTAL_BILLING_LATE_MONTHS", 2, low=0, high=12)
BILLING_FOUR_EYES = _env.flag("PORTAL_BILLING_FOUR_EYES")  # who planned a run may not approve it
# Calls to Stripe under way at once in one job of a billing run; every job of the worker has as many.
BILLING_CALLS_AT_ONCE = _env.integer("PORTAL_BILLING_CALLS_AT_ONCE", 4, low=1, high=32)
# Calls a second to the provider's Stripe account, over all processes; 0 is no limit of ours.
STRIPE_CALLS_A_SECOND = _env.integer(
    "PROVIDER_STRIPE_CALLS_PER_SECOND",
    0 if STRIPE_API_BASE else 80 if "_live_" in PROVIDER_STRIPE_SECRET_KEY else 20,
    low=0,
    high=10_000,
)
# How often the account is looked through for what no webhook told us of; 0 leaves it to the command line.
PROVIDER_STRIPE_SWEEP_SECONDS = _env.integer("PROVIDER_STRIPE_SWEEP_SECONDS", 3_600, low=0, high=604_800)
# Days from the due date on which an unpaid invoice is reminded of, and escalated; empty: never.
PROVIDER_DUNNING_SCHEDULE = _env.text("PROVIDER_DUNNING_SCHEDULE", "-3,1,7,14,21:escalate")
try:
    parse_schedule(PROVIDER_DUNNING_SCHEDULE)
except ValueError as error:
    raise ConfigInvalid("PROVIDER_DUNNING_SCHEDULE", str(error)) from None
# Mail: `console` (standard error), `smtp`, or any class of Django's kind by its dotted path.
_BACKEND = _env.text("PORTAL_EMAIL_BACKEND", "console")
EMAIL_BACKEND = _BACKEND if "." in _BACKEND else f"django.core.mail.backends.{_BACKEND}.EmailBackend"
EMAIL_HOST = _env.text("PORTAL_EMAIL_HOST", "localhost")
EMAIL_PORT = _env.integer("PORTAL_EMAIL_PORT", 587, low=1, high=65_535)
EMAIL_HOST_USER = _env.text("PORTAL_EMAIL_USER")
EMAIL_HOST_PASSWORD = _env.text("PORTAL_EMAIL_PASSWORD")
EMAIL_USE_TLS = _env.flag("PORTAL_EMAIL_TLS", default=True)
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = _env.text("PORTAL_EMAIL_FROM", "billing@localhost")
# txr_…, on usage invoices and subscriptions.
PROVIDER_STRIPE_TAX_RATES = _env.names("PROVIDER_STRIPE_TAX_RATES")
PROVIDER_NAME = _env.text("PROVIDER_NAME", "Your provider")  # who sends statements and reminders
PROVIDER_SIGNATURE_MODE = _env.text(
    "PROVIDER_SIGNATURE_MODE", "v2"
)  # what this portal expects of its instances


def _proration(variable: str, default: str) -> str:
    known = ("always_invoice", "create_prorations", "none", "at_period_end")
    value = _env.text(variable, default)
    if value not in known:
        raise ConfigInvalid(variable, f"must be one of {', '.join(known)}")
    return value


UPGRADE_PRORATION = _proration("PROVIDER_UPGRADE_PRORATION", "always_invoice")
DOWNGRADE_PRORATION = _proration("PROVIDER_DOWNGRADE_PRORATION", "at_period_end")
# How long a client in arrears keeps everything, counted from the unpaid invoice.
GRACE_DAYS = _env.integer("PROVIDER_GRACE_DAYS", 7, low=0, high=90)
PREVIEW_SECONDS = _env.integer("PORTAL_PREVIEW_SECONDS", 1_800, low=30, high=86_400)
DISPUTES_EVERY_SECONDS = _env.integer("PORTAL_DISPUTES_SECONDS", 300, low=1, high=86_400)
SYNC_EVERY_SECONDS = _env.integer("PORTAL_SYNC_SECONDS", 60, low=1, high=86_400)
WORKER_HEARTBEAT_SECONDS = _env.integer("PORTAL_WORKER_HEARTBEAT_SECONDS", 5, low=1, high=60)
WORKER_DEAD_AFTER_SECONDS = _env.integer("PORTAL_WORKER_DEAD_AFTER_SECONDS", 20, low=3, high=3_600)
if WORKER_DEAD_AFTER_SECONDS < 3 * WORKER_HEARTBEAT_SECONDS:
    raise ConfigInvalid(
        "PORTAL_WORKER_DEAD_AFTER_SECONDS",
        "must be at least three heartbeats, or living workers lose their jobs",
    )
METRICS_TOKEN = _env.text("PORTAL_METRICS_TOKEN")  # empty: /metrics answers this machine only

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "procrastinate.contrib.django",
    "provider_federation.portal.audit",
    "provider_federation.portal.operators",
    "provider_federation.portal.directory",
    "provider_federation.portal.subscriptions",
    "provider_federation.portal.fleet",
    "provider_federation.portal.revenue",
    "provider_federation.portal.billing_runs",
    "provider_federation.portal.receivables",
    "provider_federation.portal.reconciliation",
    "provider_federation.portal.reports",
    "provider_federation.portal.dashboard",
]
MIDDLEWARE = [
    "provider_federation.portal.middleware.SecurityHeadersMiddleware",
    "provider_federation.kit.web.errors.ApiErrorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "provider_federation.kit.web.static_files.StaticFilesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]
ROOT_URLCONF = "provider_federation.portal.urls"
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
                "provider_federation.portal.dashboard.pages.frame",
            ],
        },
    },
]
DATABASES = {"default": database_settings(_env, DATA_DIR)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "operators.Operator"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "provider_federation.portal.operators.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = [
    "email*",
    "password1*",
]  # nobody signs up; allauth wants to know what a login consists of
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = False  # a session ends with the browser
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = False
ACCOUNT_RATE_LIMITS = {"login_failed": "20/m/ip,5/5m/key"}
MFA_ADAPTER = "provider_federation.portal.operators.adapters.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_ALLOW_UNVERIFIED_EMAIL = True  # an admin typed the address
ALLAUTH_TRUSTED_PROXY_COUNT = _env.integer("PORTAL_TRUSTED_PROXIES", 0, low=0, high=5)
# Rate limits and used one-time codes must hold over all web processes, so the cache is a table.
# Past MAX_ENTRIES living ones are thrown out too: at Django's 300, strangers could wash a throttle out by trying names.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "portal_cache",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(
    parents=True, exist_ok=True
)  # empty unless somebody collects; WhiteNoise wants to look there
STATICFILES_DIRS = [Path(__file__).parent / "static"]
WHITENOISE_USE_FINDERS = True  # serves straight from the packages; nothing has to be collected first
WHITENOISE_ALLOW_ALL_ORIGINS = False

SECURE = BASE_URL.startswith("https://")
SESSION_COOKIE_NAME = "__Host-portal" if SECURE else "portal"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
# The proxy in front redirects to HTTPS; a redirect here would loop behind one that speaks HTTP to us.
SECURE_SSL_REDIRECT = False
# That redirect; and subdomains and preloading, which bind more than this host (kit/web/headers.py).
SILENCED_SYSTEM_CHECKS = ["security.W008", "security.W005", "security.W021"]
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
LOGGING_CONFIG = None  # kit.logs configures both structlog and the standard library, once per process
