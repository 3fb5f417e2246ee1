"""The one settings document (``version: 1``) that gateway and serving both read.

The Helm chart renders it verbatim from its ``config:`` value. It is loaded once, frozen, and an unknown key
is an error. Secrets are never in it: every secret is the path of a file. Each field's docstring gives its
unit, and what None means.
"""

from cluster.settings.auth import (
    AuthSettings,
    ClaimSettings,
    Grant,
    JwksSettings,
    JwtAlgorithm,
    JwtSettings,
    KeyDirectorySettings,
    KeySecretSettings,
    KeySettings,
    Scopes,
)
from cluster.settings.document import (
    DEFAULT_PATH,
    PATH_VARIABLE,
    Settings,
    SettingsError,
    find_path,
    load,
    parse,
)
from cluster.settings.fields import GptOss, TenantName
from cluster.settings.gateway import HttpSettings, LoggingSettings, StreamSettings
from cluster.settings.limits import DailyTokens, LimitSettings, RateLimits, RedisSettings
from cluster.settings.models import ModelSettings, TierSettings
from cluster.settings.serving import (
    PoolSettings,
    Replicas,
    RoutingSettings,
    ScalingSettings,
    SimulatedEngine,
)

__all__ = [
    "DEFAULT_PATH",
    "PATH_VARIABLE",
    "AuthSettings",
    "ClaimSettings",
    "DailyTokens",
    "GptOss",
    "Grant",
    "HttpSettings",
    "JwksSettings",
    "JwtAlgorithm",
    "JwtSettings",
    "KeyDirectorySettings",
    "KeySecretSettings",
    "KeySettings",
    "LimitSettings",
    "LoggingSettings",
    "ModelSettings",
    "PoolSettings",
    "RateLimits",
    "RedisSettings",
    "Replicas",
    "RoutingSettings",
    "ScalingSettings",
    "Scopes",
    "Settings",
    "SettingsError",
    "SimulatedEngine",
    "StreamSettings",
    "TenantName",
    "TierSettings",
    "find_path",
    "load",
    "parse",
]
