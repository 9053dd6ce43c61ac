"""CloudTrail Lake's side, for accounts that AWS still lets create it: event data store, channel, policy, dashboard."""

from aws_cdk import Fn, RemovalPolicy, Stack
from aws_cdk import aws_cloudtrail as cloudtrail
from aws_cdk import aws_iam as iam
from constructs import Construct

from ..settings.groups import EventStoreOptions
from . import keys
from .cache_access import physical_name
from .lake_dashboard import REFRESH_HOURS, widgets

_INCLUDED_RETENTION_DAYS = {"EXTENDABLE_RETENTION_PRICING": 366, "FIXED_RETENTION_PRICING": 2557}


class EventStore(Construct):
    """An event data store for what comes from Kong, and the channel into it. They stay when the stack goes.

    AWS closed CloudTrail Lake to new customers on 31 May 2026. In an account that did not use it before, creating the
    store fails, and with it the deployment.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    options : EventStoreOptions
        Source, retention, price, key, dashboard.

    Attributes
    ----------
    event_data_store : cloudtrail.CfnEventDataStore
        The store.
    channel : cloudtrail.CfnChannel
        The channel.
    channel_arn : str
        Its ARN, known at deployment.
    channel_policy : cloudtrail.CfnResourcePolicy or None
        Who may use the channel, and with which external id; see `require_external_id`.
    dashboard : cloudtrail.CfnDashboard or None
        The dashboard in CloudTrail Lake.
    """

    def __init__(self, scope: Construct, construct_id: str, *, options: EventStoreOptions) -> None:
        super().__init__(scope, construct_id)
        days = (
            _INCLUDED_RETENTION_DAYS[options.billing_mode] if options.retention is None else options.retention.to_days()
        )
        name = options.name or f"{physical_name(self)}-{_of_this_creation(self)}"
        key = None if options.encryption_key is None else keys.resolved(options.encryption_key)
        if key is not None:
            # Keys of event data stores take no conditions on who asks, says the page:
            # https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-kms-key-policy-for-cloudtrail.html
            keys.allow_service(
                self,
                f"{options.place}.encryption_key",
                key,
                "cloudtrail.amazonaws.com",
                ["kms:GenerateDataKey", "kms:Decrypt", "kms:DescribeKey"],
            )
        self.event_data_store = cloudtrail.CfnEventDataStore(
            self,
            "Store",
            name=name,
            # The form that CloudTrail asks of a store for integrations.
            multi_region_enabled=False,
            organization_enabled=False,
            advanced_event_selectors=[
                cloudtrail.CfnEventDataStore.AdvancedEventSelectorProperty(
                    name="Events from outside AWS",
                    field_selectors=[
                        cloudtrail.CfnEventDataStore.AdvancedFieldSelectorProperty(
                            field="eventCategory", equal_to=["ActivityAuditLog"]
                        )
                    ],
                )
            ],
            billing_mode=options.billing_mode,
            retention_period=days,
            kms_key_id=None if key is None else key.key_arn,
            termination_protection_enabled=options.termination_protection,
        )
        self.channel = cloudtrail.CfnChannel(
            self,
            "Channel",
            # The source cannot be changed: a channel of another one is another channel, and has another name.
            name=name if options.source == "KongGatewayEnterprise" else f"{name}-{options.source.lower()}",
            source=options.source,
            destinations=[
                cloudtrail.CfnChannel.DestinationProperty(
                    type="EVENT_DATA_STORE", location=self.event_data_store.attr_event_data_store_arn
                )
            ],
        )
        # What a first deployment that fails has created is removed again, lest it be in the way of the next one: there
        # is one channel of each source. A protected store cannot be removed, and stays; it has its name to itself.
        self.channel.apply_removal_policy(RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE)
        self.event_data_store.apply_removal_policy(
            RemovalPolicy.RETAIN if options.termination_protection else RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE
        )
        self.channel_arn = self.channel.attr_channel_arn
        self.channel_policy: cloudtrail.CfnResourcePolicy | None = None
        self.dashboard = self._new_dashboard(name) if options.dashboard else None

    def require_external_id(self, external_id: str, role: iam.IRole) -> None:
        """Let the role use the channel by the channel's own policy too, and only with the external id."""
        self.channel_policy = self._policy(
            "ChannelPolicy",
            self.channel_arn,
            iam.PolicyStatement(
                sid="Collector",
                principals=[iam.ArnPrincipal(role.role_arn)],
                actions=["cloudtrail-data:PutAuditEvents"],
                resources=[self.channel_arn],
                conditions={"StringEquals": {"cloudtrail:ExternalId": external_id}},
            ),
        )

    def _new_dashboard(self, name: str) -> cloudtrail.CfnDashboard:
        store_arn = self.event_data_store.attr_event_data_store_arn
        stack = Stack.of(self)
        dashboard_arn = stack.format_arn(service="cloudtrail", resource="dashboard", resource_name=name)
        # https://docs.aws.amazon.com/awscloudtrail/latest/userguide/security_iam_resource-based-policy-examples.html
        conditions = {"StringEquals": {"aws:SourceAccount": stack.account, "aws:SourceArn": dashboard_arn}}
        store_policy = self._policy(
            "StorePolicy",
            store_arn,
            iam.PolicyStatement(
                sid="Dashboard",
                principals=[iam.ServicePrincipal("cloudtrail.amazonaws.com")],
                actions=["cloudtrail:StartQuery"],
                resources=[store_arn],
                conditions=conditions,
            ),
        )
        dashboard = cloudtrail.CfnDashboard(
            self,
            "Dashboard",
            name=name,
            refresh_schedule=cloudtrail.CfnDashboard.RefreshScheduleProperty(
                frequency=cloudtrail.CfnDashboard.FrequencyProperty(unit="HOURS", value=REFRESH_HOURS),
                status="ENABLED",
            ),
            # What stands behind the slash of the store's ARN is its id, which queries name it by.
            widgets=widgets(Fn.select(1, Fn.split("/", store_arn))),
        )
        dashboard.node.add_dependency(store_policy)
        self._policy(
            "DashboardPolicy",
            dashboard.attr_dashboard_arn,
            iam.PolicyStatement(
                sid="Refresh",
                principals=[iam.ServicePrincipal("cloudtrail.amazonaws.com")],
                actions=["cloudtrail:StartDashboardRefresh"],
                resources=[dashboard.attr_dashboard_arn],
                conditions=conditions,
            ),
        )
        return dashboard

    def _policy(
        self, construct_id: str, resource_arn: str, statement: iam.PolicyStatement
    ) -> cloudtrail.CfnResourcePolicy:
        document = iam.PolicyDocument(statements=[statement])
        return cloudtrail.CfnResourcePolicy(self, construct_id, resource_arn=resource_arn, resource_policy=document)


def _of_this_creation(construct: Construct) -> str:
    """Return text that is another one whenever the stack is created anew: the first part of its id's UUID."""
    return Fn.select(0, Fn.split("-", Fn.select(2, Fn.split("/", Stack.of(construct).stack_id))))
