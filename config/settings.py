"""All settings. What differs between installations comes from the environment, read here only."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import django_stubs_ext
from django.core.exceptions import ImproperlyConfigured

from config import embedded

django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent


def env_str(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def env_int(name: str, default: int, *, least: int = 0) -> int:
    """Read a whole number.

    Raises:
        ImproperlyConfigured: when it is not a number, or smaller than `least`.
    """
    text = env_str(name, str(default))
    try:
        value = int(text)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {text!r}.") from None
    if value < least:
        raise ImproperlyConfigured(f"{name} must be at least {least}, not {value}.")
    return value


def env_bool(name: str, default: bool = False) -> bool:
    """Read a yes or no.

    Raises:
        ImproperlyConfigured: when it is neither.
    """
    text = env_str(name, "yes" if default else "no").lower()
    if text in {"1", "yes", "true", "on"}:
        return True
    if text in {"0", "no", "false", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} must be yes or no, not {text!r}.")


def env_list(name: str, default: list[str], *, separator: str = ",") -> list[str]:
    text = env_str(name)
    return [part.strip() for part in text.split(separator) if part.strip()] if text else default


def env_secret(name: str, file: Path) -> str:
    """Read a secret from the environment, else from `file`, which is made at the first need."""
    if text := env_str(name):
        return text
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(50))
        try:
            os.link(draft, file)  # Of two processes that start together, one wins and both read it.
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return file.read_text().strip()


def env_path(name: str) -> Path | None:
    text = env_str(name)
    return Path(text).expanduser() if text else None


def env_paths(name: str, default: list[Path]) -> list[Path]:
    return [Path(part).expanduser() for part in env_list(name, [], separator=os.pathsep)] or default


def database(url: str, *, idle_seconds: int = 60) -> dict[str, Any]:
    """Turn a database URL into Django's settings; options of the query go to libpq.

    A transaction in which nothing happens for `idle_seconds` is ended by the server.

    Raises:
        ImproperlyConfigured: when it is no URL of PostgreSQL.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured("DATABASE_URL must begin with postgresql://")
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    # A process that was frozen in the middle (a paused host, Ctrl-Z) would keep its locks for ever.
    options.setdefault("options", f"-c idle_in_transaction_session_timeout={idle_seconds}s")
    host = options.pop("host", None) or unquote(parts.hostname or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")) or "tutti",
        "USER": unquote(parts.username or options.pop("user", "")),
        "PASSWORD": unquote(parts.password or options.pop("password", "")),
        "HOST": host,
        "PORT": str(parts.port or options.pop("port", "")),
        # Threads come and go with runs and requests: they share a pool instead of each keeping a
        # connection, and a health check lets a restart of the server pass unnoticed.
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            **options,
            "application_name": "tutti",
            "pool": {"min_size": 0, "max_size": DATABASE_POOL, "timeout": 20, "max_idle": 60},
        },
    }


# --- Everything that is read from the environment ------------------------------------------------

TUTTI_HOME = embedded.home_path()
DEBUG = env_bool("TUTTI_DEBUG")
SECRET_KEY = env_secret("SECRET_KEY", TUTTI_HOME / "secret_key")
#: Keys that seal secrets at rest, newest first; without them, TUTTI_HOME/secret_keys holds them.
TUTTI_SECRET_KEYS = env_list("TUTTI_SECRET_KEYS", [])
DATABASE_URL = env_str("DATABASE_URL", embedded.database_url(TUTTI_HOME))
DATABASE_POOL = env_int("TUTTI_DATABASE_POOL", 40, least=4)
REDIS_URL = env_str("REDIS_URL", embedded.redis_url(TUTTI_HOME))
REDIS_PREFIX = env_str("TUTTI_REDIS_PREFIX", "tutti")
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS", [])
HTTPS = env_bool("TUTTI_HTTPS")
PROXIES = env_int("TUTTI_PROXIES", 0)
SIGNUP_OPEN = env_bool("TUTTI_SIGNUP_OPEN")
LOG_LEVEL = env_str("TUTTI_LOG_LEVEL", "INFO").upper()

#: Directories that a project's local source repository may lie in.
TUTTI_SOURCE_ROOTS = env_paths(
    "TUTTI_SOURCE_ROOTS", [Path.home(), BASE_DIR, TUTTI_HOME, Path(tempfile.gettempdir())]
)
#: Hosts of repositories that may have a private address.
TUTTI_SOURCE_HOSTS = env_list("TUTTI_SOURCE_HOSTS", [])
#: Whether agents and checks may run where bubblewrap cannot; read by agents/confinement.py.
TUTTI_ALLOW_UNCONFINED = env_bool("TUTTI_ALLOW_UNCONFINED")
#: Where agents on this machine reach the web process; without it, port 8000 of the machine itself.
TUTTI_URL = env_str("TUTTI_URL")
#: Name under which this machine takes part in runs.
TUTTI_HOST = env_str("TUTTI_HOST", socket.gethostname())
#: No run is claimed while less than this is free.
TUTTI_MEMORY_FLOOR_MB = env_int("TUTTI_MEMORY_FLOOR_MB", 500)
TUTTI_DISK_FLOOR_MB = env_int("TUTTI_DISK_FLOOR_MB", 1000)
#: A run that gave no sign of life for this long is stalled.
TUTTI_LEASE_SECONDS = env_int("TUTTI_LEASE_SECONDS", 30, least=2)
TUTTI_HEARTBEAT_SECONDS = env_int("TUTTI_HEARTBEAT_SECONDS", 10, least=1)
#: Longest time that one check command may take.
TUTTI_CHECK_SECONDS = env_int("TUTTI_CHECK_SECONDS", 600, least=1)
TUTTI_TICK_SECONDS = env_int("TUTTI_TICK_SECONDS", 2, least=1)
TUTTI_SWEEP_SECONDS = env_int("TUTTI_SWEEP_SECONDS", 5, least=1)
#: Threads of a worker process for runs: the most runs and checks of them at the same time.
TUTTI_RUN_THREADS = env_int("TUTTI_RUN_THREADS", 12, least=1)
#: Checks that run at the same time on this machine.
TUTTI_CHECKS_PER_HOST = env_int("TUTTI_CHECKS_PER_HOST", os.cpu_count() or 1, least=1)
#: Agents that start at the same time on this machine; a start takes a processor for seconds.
TUTTI_STARTS_PER_HOST = env_int("TUTTI_STARTS_PER_HOST", os.cpu_count() or 1, least=1)
#: Memory for agents and their checks on this machine together; 0 is all that it has.
TUTTI_MEMORY_MB = env_int("TUTTI_MEMORY_MB", 0)
#: What an agent is taken to need while none of its profile was measured.
TUTTI_AGENT_MEMORY_MB = env_int("TUTTI_AGENT_MEMORY_MB", 500, least=1)
#: Agents that may be alive on this machine at once, however much memory is free.
TUTTI_AGENTS_PER_HOST = env_int("TUTTI_AGENTS_PER_HOST", 32, least=1)
#: Time without pressure after which one more agent, and one more check, may run here.
TUTTI_CALM_SECONDS = env_int("TUTTI_CALM_SECONDS", 10, least=1)
#: The highest ceiling that a project may set.
TUTTI_SITE_CEILING = env_int("TUTTI_SITE_CEILING", 20, least=1)
#: A file that the backup of hubs and database touches when it is done; its age is shown.
TUTTI_BACKUP_STAMP = env_path("TUTTI_BACKUP_STAMP")
#: What prices and money quotas are in; only a word, nothing is converted.
TUTTI_CURRENCY = env_str("TUTTI_CURRENCY", "USD")
#: Seconds without a 429 after which a throttled provider gets one more run at once.
TUTTI_PROVIDER_CALM_SECONDS = env_int("TUTTI_PROVIDER_CALM_SECONDS", 60, least=1)

# --- Django --------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "channels",
    "django_htmx",
    "template_partials",
    "allauth",
    "allauth.account",
    "csp",
    "ninja",
    "config",
    "projects",
    "reviews",
    "agents",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "config.middleware.redacting",
    "config.middleware.without_nul",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": database(DATABASE_URL, idle_seconds=2 * TUTTI_LEASE_SECONDS)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": f"{REDIS_PREFIX}.cache",
    },
}

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            # redis-py closes a socket that was silent for 5 s unless it is told not to.
            "hosts": [{"address": REDIS_URL, "socket_timeout": None}],
            "prefix": f"{REDIS_PREFIX}.channels",
        },
    },
}

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "static/"
STATIC_ROOT = TUTTI_HOME / "static"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # WhiteNoise warns of a missing one.
STATICFILES_DIRS = [path for path in [BASE_DIR / "static"] if path.is_dir()]
# `collectstatic` is what turns on names with hashes; without it the files are served as they lie.
STATIC_COLLECTED = not DEBUG and (STATIC_ROOT / "staticfiles.json").exists()
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if STATIC_COLLECTED
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not STATIC_COLLECTED
WHITENOISE_AUTOREFRESH = DEBUG

# --- People --------------------------------------------------------------------------------------

AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"

ACCOUNT_ADAPTER = "config.accounts.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_REDIRECT_URL = "/"
ACCOUNT_SESSION_REMEMBER = True
# Failed log-ins are limited by allauth's defaults: 10 a minute for an address, 5 in 5 minutes for a
# name.
ALLAUTH_TRUSTED_PROXY_COUNT = PROXIES
EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

# --- Security ------------------------------------------------------------------------------------

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "font-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    },
}
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = "tutti_session"
CSRF_COOKIE_NAME = "tutti_csrf"
CSRF_FAILURE_VIEW = "projects.views.answers.csrf_failure"
SECURE_SSL_REDIRECT = False  # The proxy that ends TLS redirects.
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
if PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    USE_X_FORWARDED_HOST = True

DEFAULT_EXCEPTION_REPORTER = "config.errors.Reporter"

# --- Logging -------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "()": "projects.redaction.Formatter",
            "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        },
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stderr",
            "formatter": "plain",
        },
    },
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        "django.channels.server": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
    },
}
