"""Kong Gateway's audit trail, kept in AWS: the CDK construct and this repository's stack."""

from .app.stack import IntegrationStack
from .errors import SettingsError
from .integration import KongCloudTrailIntegration
from .observability.alarms import AlarmOptions
from .observability.construct import Observability
from .observability.metrics import MetricName, TrailMetrics
from .parts.archive import ArchiveBucket
from .parts.archive_queries import ArchiveQueries
from .parts.cache import DedupeCache, ImportedCache, ReplicationGroupCache, ServerlessDedupeCache
from .parts.event_store import EventStore
from .parts.lambda_asset import BundlingError
from .parts.ledger import Ledger
from .parts.log_group import TrailLogGroup
from .settings.groups import (
    Archive,
    CacheOptions,
    CloudTrailLake,
    CloudWatchLogs,
    EventStoreOptions,
    ExistingCache,
    FunctionOptions,
    KongOptions,
    LedgerOptions,
    NetworkOptions,
    RunOptions,
    ScheduleOptions,
    ServerlessOptions,
)
from .settings.resolved import DeploymentSettings, IntegrationSettings

__all__ = [
    "AlarmOptions",
    "Archive",
    "ArchiveBucket",
    "ArchiveQueries",
    "BundlingError",
    "CacheOptions",
    "CloudTrailLake",
    "CloudWatchLogs",
    "DedupeCache",
    "DeploymentSettings",
    "EventStore",
    "EventStoreOptions",
    "ExistingCache",
    "FunctionOptions",
    "ImportedCache",
    "IntegrationSettings",
    "IntegrationStack",
    "KongCloudTrailIntegration",
    "KongOptions",
    "Ledger",
    "LedgerOptions",
    "MetricName",
    "NetworkOptions",
    "Observability",
    "ReplicationGroupCache",
    "RunOptions",
    "ScheduleOptions",
    "ServerlessDedupeCache",
    "ServerlessOptions",
    "SettingsError",
    "TrailLogGroup",
    "TrailMetrics",
]
