"""The cache that remembers which entries were delivered, in three kinds: two nodes, serverless, or brought along.

What it holds can be lost without losing an entry: the ledger's checkpoint bounds what would be read and delivered
again. So there are no snapshots, and the stack removes it without a trace.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jsii
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticache as elasticache
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from ..errors import SettingsError
from ..settings.groups import DEFAULT_AUTHENTICATION, DEFAULT_ENGINE, CacheOptions, ExistingCache, ServerlessOptions
from .cache_access import CacheAccess, CacheUsers, IamAccess, PasswordAccess, generated_password, physical_name
from .nag import accept, controls

PORT = 6380
"""Redis over TLS customarily has 6380, which tells it apart from the unencrypted 6379."""

SERVERLESS_PORT = 6379
"""ElastiCache Serverless offers no choice; its port 6380 reads from replicas, which may not know the newest marks."""

NODES = 2

_ENGINE_VERSIONS = {"valkey": "8.1", "redis": "7.1"}
_SERVERLESS_VERSIONS = {"valkey": "8", "redis": "7"}
_NODE_TYPE = "cache.t4g.micro"
_DESCRIPTION = "Remembers which Kong audit log entries were delivered"
_GIB = 1024**3


@jsii.implements(ec2.IConnectable)
class DedupeCache(Construct):
    """What every kind of cache has; there are `ReplicationGroupCache`, `ServerlessDedupeCache` and `ImportedCache`.

    Attributes
    ----------
    host : str
        ``host:port``, known at deployment.
    port : int
        The same port as a number.
    tls : bool
        Whether it speaks TLS.
    access : CacheAccess
        How a client signs in.
    password : secretsmanager.ISecret or None
        The secret with the password; None where there is none.
    security_group : ec2.ISecurityGroup or None
        The cache's security group; None where it is not known.
    client_security_group : ec2.ISecurityGroup or None
        A group without rules of its own, whose members the cache admits; None where there is none.
    connections : ec2.Connections
        Its connections at its port, for rules of your own; they do nothing where no security group is known.
    has_databases : bool
        Whether there are several databases, told apart by their index.
    """

    host: str
    port: int
    tls: bool
    access: CacheAccess
    security_group: ec2.ISecurityGroup | None
    client_security_group: ec2.ISecurityGroup | None
    has_databases = True

    @staticmethod
    def from_attributes(scope: Construct, construct_id: str, **attributes: Any) -> "ImportedCache":
        """Return the cache of an integration in another app, for integrations of this one to share.

        Parameters
        ----------
        scope, construct_id
            As for every construct.
        attributes
            As of `ExistingCache`. Of an integration's cache that signs in by IAM they are ``host``, ``port``,
            ``username`` (the user's name), ``iam_cache``, ``serverless`` and ``client_security_group``.

        Raises
        ------
        SettingsError
            With everything that is wrong with them.
        """
        existing = ExistingCache(**attributes)
        if problems := list(existing.problems()):
            raise SettingsError(problems)
        return ImportedCache(scope, construct_id, existing=existing)

    @property
    def connections(self) -> ec2.Connections:  # noqa: D102 - documented above
        groups = [] if self.security_group is None else [self.security_group]
        return ec2.Connections(security_groups=groups, default_port=ec2.Port.tcp(self.port))

    @property
    def password(self) -> secretsmanager.ISecret | None:  # noqa: D102 - documented above
        return self.access.secret if isinstance(self.access, PasswordAccess) else None

    @property
    def variables(self) -> Mapping[str, str]:
        """The function's variables that lead to the cache."""
        return {"REDIS_HOST": self.host, "REDIS_TLS": "true" if self.tls else "false", **self.access.variables}

    def grant_connect(self, role: iam.IRole) -> None:
        """Let a role sign in. Being let through to the cache is another matter: see `admit`."""
        self.access.grant(role)

    def admit(self, client: ec2.ISecurityGroup, *, rule_in_own_stack: bool = False) -> None:
        """Open the way to the cache for a client's security group.

        Where there is a `client_security_group`, the client has to be a member of it as well.

        Parameters
        ----------
        client : ec2.ISecurityGroup
            The client's group.
        rule_in_own_stack : bool
            Whether the rule of the client's group becomes part of the cache's stack, as it must where the client's
            stack was there first. Default: no, of the client's.
        """
        port = ec2.Port.tcp(self.port)
        if self.security_group is None:
            client.add_egress_rule(ec2.Peer.any_ipv4(), port, "The cache")
        elif self.client_security_group is None:
            client.connections.allow_to(self.security_group, port, "The cache of the Kong audit trail")
        else:
            # The cache's own rules speak of membership only: it needs no list of its clients, and the groups of client
            # and cache do not refer to each other in a circle.
            if rule_in_own_stack:
                client.add_egress_rule(self.security_group, port, "The cache", remote_rule=True)
                return
            client.add_egress_rule(ec2.Peer.security_group_id(self.security_group.security_group_id), port, "The cache")

    def _protect(self, vpc: ec2.IVpc, name: str | None) -> str:
        """Create the two security groups; return the id of the cache's."""
        self.client_security_group = client = ec2.SecurityGroup(
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
            ec2.Peer.security_group_id(client.security_group_id), ec2.Port.tcp(self.port), "Clients of the cache"
        )
        return self.security_group.security_group_id


class ReplicationGroupCache(DedupeCache):
    """Two nodes in two availability zones, encrypted, behind a sign-in and a security group. It never evicts.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    vpc : ec2.IVpc
        The VPC of the cache.
    subnet_ids : sequence of str
        Subnets in at least two availability zones.
    options : CacheOptions, optional
        Engine, version, node type, port, authentication. Default: those of `CacheOptions`.
    name : str, optional
        Stem of the security groups' physical names. Default: CloudFormation's choice.
    encryption_key : kms.IKey, optional
        Key of the data at rest and of the password. Default: AWS's own.

    Attributes
    ----------
    replication_group : elasticache.CfnReplicationGroup
        The cache.
    parameter_group : elasticache.CfnParameterGroup
        Its parameters.
    subnet_group : elasticache.CfnSubnetGroup
        Its subnets.
    users : CacheUsers or None
        User and group of IAM authentication; None with a password.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: ec2.IVpc,
        subnet_ids: Sequence[str],
        options: CacheOptions | None = None,
        name: str | None = None,
        encryption_key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        options = options or CacheOptions()
        engine = options.engine or DEFAULT_ENGINE
        version = options.engine_version or _ENGINE_VERSIONS[engine]
        self.port, self.tls = options.port or PORT, True
        security_group_id = self._protect(vpc, name)
        self.subnet_group = elasticache.CfnSubnetGroup(
            self, "Subnets", description="Subnets of the Kong audit trail's cache", subnet_ids=list(subnet_ids)
        )
        self.parameter_group = elasticache.CfnParameterGroup(
            self,
            "Parameters",
            cache_parameter_group_family=f"{engine}{version.partition('.')[0]}",
            description="The Kong audit trail's cache never evicts",
            # A mark evicted in silence would be an entry delivered twice. Full memory must be an error that is seen.
            properties={"maxmemory-policy": "noeviction"},
        )
        by_iam = (options.authentication or DEFAULT_AUTHENTICATION) == "iam"
        self.users = CacheUsers(self, "Users", engine=engine) if by_iam else None
        secret = None if by_iam else generated_password(self, encryption_key)
        self.replication_group = elasticache.CfnReplicationGroup(
            self,
            "ReplicationGroup",
            replication_group_description=_DESCRIPTION,
            engine=engine,
            engine_version=version,
            auto_minor_version_upgrade=True,
            cache_node_type=options.node_type or _NODE_TYPE,
            cache_parameter_group_name=self.parameter_group.ref,
            num_cache_clusters=NODES,
            automatic_failover_enabled=True,
            multi_az_enabled=True,
            cache_subnet_group_name=self.subnet_group.ref,
            security_group_ids=[security_group_id],
            port=self.port,
            at_rest_encryption_enabled=True,
            kms_key_id=encryption_key.key_arn if encryption_key else None,
            transit_encryption_enabled=True,
            transit_encryption_mode="required",
            # Not a value but a dynamic reference: CloudFormation reads the secret, the template never holds it.
            auth_token=secret.secret_value.unsafe_unwrap() if secret else None,
            user_group_ids=[self.users.group.ref] if self.users else None,
            snapshot_retention_limit=0,
        )
        group = self.replication_group
        accept(
            group,
            controls("ElastiCacheRedisClusterAutomaticBackup"),
            "What it holds can be lost without losing an entry: the ledger's checkpoint bounds what is read again.",
        )
        self.host = f"{group.attr_primary_end_point_address}:{group.attr_primary_end_point_port}"
        if self.users is not None:
            self.access = IamAccess(
                self,
                user_name=self.users.user.user_name,
                user_arn=self.users.user.attr_arn,
                cache_name=group.ref,
                serverless=False,
            )
            accept(
                group,
                "AwsSolutions-AEC6",
                "The rule knows passwords only. Here a user group admits one user, who signs in with an IAM role.",
            )
        elif secret is not None:
            self.access = PasswordAccess(secret)


class ServerlessDedupeCache(DedupeCache):
    """A cache of ElastiCache Serverless, with limits to what it may use. At the limit of stored data it evicts.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    vpc : ec2.IVpc
        The VPC of the cache.
    subnet_ids : sequence of str
        Subnets in at least two availability zones.
    options : CacheOptions, optional
        Limits, engine, version, authentication. Default: those of `CacheOptions` and `ServerlessOptions`.
    name : str, optional
        Stem of the security groups' physical names. Default: CloudFormation's choice.
    encryption_key : kms.IKey, optional
        Key of the data at rest and of the password. Default: AWS's own.

    Attributes
    ----------
    serverless_cache : elasticache.CfnServerlessCache
        The cache.
    name : str
        Its name, the ``clusterId`` of its metrics.
    limit_bytes : int
        Its limit of stored data.
    users : CacheUsers
        User and group.
    """

    has_databases = False

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: ec2.IVpc,
        subnet_ids: Sequence[str],
        options: CacheOptions | None = None,
        name: str | None = None,
        encryption_key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        options = options or CacheOptions()
        limits = options.serverless or ServerlessOptions()
        engine = options.engine or DEFAULT_ENGINE
        by_iam = (options.authentication or DEFAULT_AUTHENTICATION) == "iam"
        secret = None if by_iam else generated_password(self, encryption_key)
        # Without a group of users, a serverless cache would ask nobody who they are.
        self.users = CacheUsers(self, "Users", engine=engine, password=secret)
        self.name = physical_name(self, engine, list(subnet_ids), encryption_key.key_arn if encryption_key else "")
        self.limit_bytes = limits.max_storage_gib * _GIB
        self.port, self.tls = SERVERLESS_PORT, True
        self.serverless_cache = elasticache.CfnServerlessCache(
            self,
            "Cache",
            serverless_cache_name=self.name,
            description=_DESCRIPTION,
            engine=engine,
            major_engine_version=options.engine_version or _SERVERLESS_VERSIONS[engine],
            security_group_ids=[self._protect(vpc, name)],
            subnet_ids=list(subnet_ids),
            user_group_id=self.users.group.ref,
            kms_key_id=encryption_key.key_arn if encryption_key else None,
            cache_usage_limits=elasticache.CfnServerlessCache.CacheUsageLimitsProperty(
                data_storage=elasticache.CfnServerlessCache.DataStorageProperty(
                    maximum=limits.max_storage_gib, unit="GB"
                ),
                ecpu_per_second=elasticache.CfnServerlessCache.ECPUPerSecondProperty(
                    maximum=limits.max_ecpu_per_second
                ),
            ),
        )
        self.host = f"{self.serverless_cache.attr_endpoint_address}:{self.port}"
        user = self.users.user
        self.access = (
            IamAccess(self, user_name=user.user_name, user_arn=user.attr_arn, cache_name=self.name, serverless=True)
            if secret is None
            else PasswordAccess(secret, username=user.user_name)
        )


class ImportedCache(DedupeCache):
    """A cache that somebody else looks after; it should not evict, and should speak TLS.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    existing : ExistingCache
        Where it is, and how to sign in.
    """

    def __init__(self, scope: Construct, construct_id: str, *, existing: ExistingCache) -> None:
        super().__init__(scope, construct_id)
        self.port, self.tls = existing.port, existing.tls
        self.host = f"{existing.host}:{existing.port}"
        self.security_group, self.client_security_group = existing.security_group, existing.client_security_group
        self.has_databases = not existing.serverless
        self.access = self._access(existing)

    def _access(self, existing: ExistingCache) -> CacheAccess:
        if existing.iam_cache is not None and existing.username is not None:
            return IamAccess(
                self,
                user_name=existing.username,
                cache_name=existing.iam_cache,
                serverless=existing.serverless,
            )
        secret = existing.password_secret
        return CacheAccess() if secret is None else PasswordAccess(secret, username=existing.username)


def create_cache(
    scope: Construct,
    construct_id: str,
    options: CacheOptions,
    *,
    vpc: ec2.IVpc,
    subnet_ids: Sequence[str],
    name: str | None,
    encryption_key: kms.IKey | None,
) -> DedupeCache:
    """Return the kind of cache that the options ask for."""
    if options.existing is not None:
        return ImportedCache(scope, construct_id, existing=options.existing)
    kind = ReplicationGroupCache if options.serverless is None else ServerlessDedupeCache
    return kind(
        scope,
        construct_id,
        vpc=vpc,
        subnet_ids=subnet_ids,
        options=options,
        name=name,
        encryption_key=encryption_key,
    )
