"""Kong Gateway's audit trail, kept in AWS CloudTrail Lake: the CDK construct and this repository's stack."""

from .integration import KongCloudTrailIntegration
from .integration_stack import IntegrationStack
from .lambda_asset import BundlingError
from .options import DeploymentOptions, IntegrationOptions, SettingsError

__all__ = [
    "BundlingError",
    "DeploymentOptions",
    "IntegrationOptions",
    "IntegrationStack",
    "KongCloudTrailIntegration",
    "SettingsError",
]
