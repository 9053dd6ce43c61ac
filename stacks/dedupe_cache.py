"""The replication group that remembers which entries were delivered."""

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticache as elasticache
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from .reviewed import accept

PORT = 6380
"""Redis over TLS customarily has 6380, which tells it apart from the unencrypted 6379."""

_ENGINE_VERSIONS = {"valkey": ("8.1", "valkey8"), "redis": ("7.1", "redis7")}
_NODE_TYPE = "cache.t4g.micro"


class DedupeCache(Construct):
    """Two nodes in two availability zones, encrypted, behind a password and a security group.

    What it holds can be lost without losing an entry: the ledger's checkpoint bounds what would be read and delivered
    again. So there are no snapshots, and the stack removes it without a trace.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    vpc : ec2.IVpc
        The VPC of the cache.
    subnet_ids : list of str
        Subnets in at least two availability zones.
    engine : str
        ``valkey`` or ``redis``.
    name : str or None
        Stem of the security group's physical name.

    Attributes
    ----------
    replication_group : elasticache.CfnReplicationGroup
        The cache.
    security_group : ec2.SecurityGroup
        Its security group.
    client_security_group : ec2.SecurityGroup
        A group without rules of its own, whose members the cache admits.
    password : secretsmanager.Secret
        The password, as plain text.
    host : str
        ``host:port`` of the primary node.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: ec2.IVpc,
        subnet_ids: list[str],
        engine: str,
        name: str | None,
    ) -> None:
        super().__init__(scope, construct_id)
        # Who may connect is a matter of membership, so the cache needs no list of its clients, and the two groups of a
        # client and of the cache need not refer to each other in a circle.
        self.client_security_group = ec2.SecurityGroup(
            self,
            "ClientSecurityGroup",
            vpc=vpc,
            security_group_name=f"{name}-cache-client" if name else None,
            description="Members may connect to the cache of the Kong audit trail; opens nothing else",
            allow_all_outbound=False,
        )
        self.security_group = ec2.SecurityGroup(
            self,
            "SecurityGroup",
            vpc=vpc,
            security_group_name=f"{name}-cache" if name else None,
            description="Cache of the Kong audit trail: reached by its clients only, reaches nothing",
            allow_all_outbound=False,
        )
        self.security_group.add_ingress_rule(
            ec2.Peer.security_group_id(self.client_security_group.security_group_id),
            ec2.Port.tcp(PORT),
            "Clients of the cache",
        )
        self.password = secretsmanager.Secret(
            self,
            "Password",
            description="Password of the Kong audit trail's cache",
            generate_secret_string=secretsmanager.SecretStringGenerator(
                password_length=64,
                exclude_punctuation=True,  # ElastiCache takes 16 to 128 characters, of the punctuation only a few
            ),
        )
        accept(
            self.password,
            "AwsSolutions-SMG4",
            "The password is one half of a pair: changing the secret alone would lock the function out. CloudFormation "
            "sets both. It is generated, read by the function's role only, and of use only inside the cache's "
            "security group, which admits the function alone.",
        )
        version, family = _ENGINE_VERSIONS[engine]
        subnets = elasticache.CfnSubnetGroup(
            self, "Subnets", description="Subnets of the Kong audit trail's cache", subnet_ids=subnet_ids
        )
        parameters = elasticache.CfnParameterGroup(
            self,
            "Parameters",
            cache_parameter_group_family=family,
            description="The Kong audit trail's cache never evicts",
            # A mark evicted in silence would be an entry delivered twice. Full memory must be an error that is seen.
            properties={"maxmemory-policy": "noeviction"},
        )
        self.replication_group = elasticache.CfnReplicationGroup(
            self,
            "ReplicationGroup",
            replication_group_description="Remembers which Kong audit log entries were delivered",
            engine=engine,
            engine_version=version,
            auto_minor_version_upgrade=True,
            cache_node_type=_NODE_TYPE,
            cache_parameter_group_name=parameters.ref,
            num_cache_clusters=2,
            automatic_failover_enabled=True,
            multi_az_enabled=True,
            cache_subnet_group_name=subnets.ref,
            security_group_ids=[self.security_group.security_group_id],
            port=PORT,
            at_rest_encryption_enabled=True,
            transit_encryption_enabled=True,
            transit_encryption_mode="required",
            # Not a value but a dynamic reference: CloudFormation reads the secret, the template never holds it.
            auth_token=self.password.secret_value.unsafe_unwrap(),
            snapshot_retention_limit=0,
        )

    @property
    def host(self) -> str:
        """``host:port`` of the primary node, known at deployment."""
        group = self.replication_group
        return f"{group.attr_primary_end_point_address}:{group.attr_primary_end_point_port}"
