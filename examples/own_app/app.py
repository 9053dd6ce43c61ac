"""A CDK app of one's own: a network, a key and tags, and in it the audit trails of two Kong gateways."""

from aws_cdk import App, Duration, Environment, Stack, Tags
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct
from kong_cloudtrail_integration import (
    FunctionOptions,
    KongCloudTrailIntegration,
    KongOptions,
    NetworkOptions,
    RunOptions,
)

REGION = "eu-central-1"
CHANNEL_ARN = f"arn:aws:cloudtrail:{REGION}:111122223333:channel/01234567-89ab-cdef-0123-456789abcdef"


class Network(Stack):
    """The VPC that the control planes and the collectors share."""

    def __init__(self, scope: Construct, construct_id: str, *, env: Environment) -> None:
        super().__init__(scope, construct_id, env=env)
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            max_azs=2,
            # PutAuditEvents has no VPC endpoint, so the collectors' subnets need a way out.
            nat_gateways=1,
            gateway_endpoints={"S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3)},
            subnet_configuration=[
                ec2.SubnetConfiguration(name="edge", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=26),
                ec2.SubnetConfiguration(name="kong", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=24),
                ec2.SubnetConfiguration(name="audit", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=26),
            ],
        )


class Audit(Stack):
    """Two audit trails, which share a cache and a ledger."""

    def __init__(self, scope: Construct, construct_id: str, *, vpc: ec2.IVpc, env: Environment) -> None:
        super().__init__(scope, construct_id, env=env)
        audit = ec2.SubnetSelection(subnet_group_name="audit")
        key = kms.Key(self, "Key", alias="alias/kong-audit", enable_key_rotation=True)
        kong = ec2.SecurityGroup.from_security_group_id(self, "Kong", "sg-0123456789abcdef0")
        # To be filled by hand with the token of an RBAC user who may read /audit/requests.
        token = secretsmanager.Secret(self, "ProductionToken", encryption_key=key)

        self.production = KongCloudTrailIntegration(
            self,
            "Production",
            vpc=vpc,
            subnets=audit,
            kong=KongOptions(admin_api="https://kong-admin.example.internal:8444", token_secret=token),
            channel_arn=CHANNEL_ARN,
            source_name="production",
            run=RunOptions(schedule=scheduler.ScheduleExpression.rate(Duration.minutes(15))),
            function=FunctionOptions(log_retention=logs.RetentionDays.TWO_YEARS),
            network=NetworkOptions(kong_peers=[kong]),  # a rule in Kong's group admits the function
            encryption_key=key,
        )
        self.staging = KongCloudTrailIntegration(
            self,
            "Staging",
            vpc=vpc,
            subnets=audit,
            kong=KongOptions(admin_api="https://kong-admin.staging.example.internal:8444"),
            channel_arn=CHANNEL_ARN,
            source_name="staging",
            cache=self.production.cache,
            ledger=self.production.ledger,
            encryption_key=key,
        )


app = App()
where = Environment(account="111122223333", region=REGION)
network = Network(app, "Network", env=where)
Audit(app, "Audit", vpc=network.vpc, env=where)
Tags.of(app).add("cost-center", "4711")
app.synth()
