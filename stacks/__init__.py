"""Kong Gateway's audit trail, kept in AWS CloudTrail Lake: the CDK construct and this repository's stack."""

from .alarms import AlarmOptions
from .choices import (
    CacheOptions,
    EventStoreOptions,
    ExistingCache,
    FunctionOptions,
    LedgerOptions,
    NetworkOptions,
    ScheduleOptions,
    ServerlessOptions,
)
from .dedupe_cache import DedupeCache, ImportedCache, ReplicationGroupCache, ServerlessDedupeCache
from .errors import SettingsError
from .event_store import EventStore
from .integration import KongCloudTrailIntegration
from .integration_stack import IntegrationStack
from .lambda_asset import BundlingError
from .ledger import Ledger
from .observability import Observability
from .options import DeploymentOptions, IntegrationOptions
from .trail_metrics import TrailMetrics

__all__ = [
    "AlarmOptions",
    "BundlingError",
    "CacheOptions",
    "DedupeCache",
    "DeploymentOptions",
    "EventStore",
    "EventStoreOptions",
    "ExistingCache",
    "FunctionOptions",
    "ImportedCache",
    "IntegrationOptions",
    "IntegrationStack",
    "KongCloudTrailIntegration",
    "Ledger",
    "LedgerOptions",
    "NetworkOptions",
    "Observability",
    "ReplicationGroupCache",
    "ScheduleOptions",
    "ServerlessDedupeCache",
    "ServerlessOptions",
    "SettingsError",
    "TrailMetrics",
]
