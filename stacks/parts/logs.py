"""Log groups, kept and encrypted as the options say."""

from aws_cdk import RemovalPolicy
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from ..settings.groups import FunctionOptions
from .keys import allow_log_groups
from .nag import accept_amazons_key


def new_log_group(
    scope: Construct, construct_id: str, options: FunctionOptions, encryption_key: kms.IKey | None
) -> logs.LogGroup:
    """Create a log group.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    options : FunctionOptions
        How long the log is kept, and what becomes of it with the stack.
    encryption_key : kms.IKey or None
        Its key. None: AWS's own.
    """
    if encryption_key is not None:
        allow_log_groups(scope, encryption_key)
    group = logs.LogGroup(
        scope,
        construct_id,
        # As long as auditors commonly look back. The name is CloudFormation's choice: a group that was kept does not
        # stand in the way of deploying again.
        retention=options.log_retention or logs.RetentionDays.ONE_YEAR,
        removal_policy=options.log_removal_policy or RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        encryption_key=encryption_key,
    )
    if encryption_key is None:
        accept_amazons_key(group, "CloudWatchLogGroupEncrypted", "CKV_AWS_158")
    return group
