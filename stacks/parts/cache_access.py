"""How the function proves to the cache who it is: by its role, by a password, or not at all."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_elasticache as elasticache
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from .grants import allow, allow_reading
from .nag import accept, accept_amazons_key, controls

ACCESS_STRING = (
    "on ~kong-cloudtrail:* resetchannels -@all"
    # The seen set, the lock (whose scripts call some of these), and the guard of the invocation.
    " +get +set +del +exists +hmget +hset +ttl +pttl +expire +pexpire +eval +evalsha +script|load"
    # The client's handshake.
    " +auth +hello +ping +select +client|setinfo"
    # Memory and eviction policy, for the verbs doctor and status.
    " +info"
)
"""What the user of the cache may do: this project's keys and commands. A test runs a whole run with it on Valkey."""


class CacheAccess:
    """A way to sign in. This one is none: the cache asks for nothing."""

    @property
    def variables(self) -> Mapping[str, str]:
        """The function's variables that tell it how."""
        return {}

    def grant(self, role: iam.IRole) -> None:
        """Let a role sign in."""


class PasswordAccess(CacheAccess):
    """A password in Secrets Manager.

    Parameters
    ----------
    secret : secretsmanager.ISecret
        Its whole value is the password.
    username : str or None
        Whose password it is. None: the default user's.
    """

    def __init__(self, secret: secretsmanager.ISecret, *, username: str | None = None) -> None:
        self.secret = secret
        self.username = username

    @property
    def variables(self) -> Mapping[str, str]:
        """The secret's ARN, and the user if there is one."""
        password = {"REDIS_PASSWORD_SECRET": self.secret.secret_arn}
        return password if self.username is None else {**password, "REDIS_USERNAME": self.username}

    def grant(self, role: iam.IRole) -> None:
        """Let a role read the password."""
        allow_reading(role, self.secret)


class IamAccess(CacheAccess):
    """A token that the function signs with its role's credentials, good for 15 minutes. Nothing is stored.

    Parameters
    ----------
    scope : Construct
        The cache, in whose account and region cache and user are.
    user_name : str
        Name and id of the user that signs in.
    cache_name : str
        Name of the serverless cache, or id of the replication group.
    serverless : bool
        Which of the two it is.
    user_arn : str, optional
        The user's ARN. Default: it follows from the name.
    """

    def __init__(
        self, scope: Construct, *, user_name: str, cache_name: str, serverless: bool, user_arn: str | None = None
    ) -> None:
        kind = "serverlesscache" if serverless else "replicationgroup"
        self.user_name = user_name
        self.cache_name = cache_name
        self.serverless = serverless
        self._user_arn = user_arn or self._arn(scope, "user", user_name)
        self._cache_arn = self._arn(scope, kind, cache_name)

    @property
    def variables(self) -> Mapping[str, str]:
        """User and cache, which the token is about."""
        return {
            "REDIS_USERNAME": self.user_name,
            "REDIS_IAM_CACHE": self.cache_name,
            "REDIS_SERVERLESS": "true" if self.serverless else "false",
        }

    def grant(self, role: iam.IRole) -> None:
        """Let a role sign in as this user, to this cache."""
        allow(role, ("elasticache:Connect",), self._cache_arn, self._user_arn)

    @staticmethod
    def _arn(scope: Construct, kind: str, name: str) -> str:
        return Stack.of(scope).format_arn(
            service="elasticache", resource=kind, resource_name=name, arn_format=ArnFormat.COLON_RESOURCE_NAME
        )


class CacheUsers(Construct):
    """The user of the cache, in a group of its own.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    engine : str
        ``valkey`` or ``redis``.
    password : secretsmanager.ISecret or None
        The user's password. None: the user signs in by IAM.

    Attributes
    ----------
    user : elasticache.CfnUser
        May use this project's keys and commands, and nothing else.
    group : elasticache.CfnUserGroup
        What a cache takes.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, engine: str, password: secretsmanager.ISecret | None = None
    ) -> None:
        super().__init__(scope, construct_id)
        mode: dict[str, Any] = {"Type": "iam"}
        if password is not None:
            # Not a value but a dynamic reference: CloudFormation reads the secret, the template never holds it.
            mode = {"Type": "password", "Passwords": [password.secret_value.unsafe_unwrap()]}
        name = physical_name(self, engine)  # IAM authentication wants id and name to be the same
        self.user = elasticache.CfnUser(
            self,
            "User",
            engine=engine,
            user_id=name,
            user_name=name,
            access_string=ACCESS_STRING,
            authentication_mode=mode,
        )
        users = [self.user.ref]
        if engine == "redis":
            # A group of Redis OSS has to have a default user. In a group of Valkey it is off of itself.
            default = elasticache.CfnUser(
                self,
                "DefaultUser",
                engine=engine,
                user_id=physical_name(self, "default"),
                user_name="default",
                access_string="off -@all",
                authentication_mode={"Type": "no-password-required"},
            )
            users.append(default.ref)
        self.group = elasticache.CfnUserGroup(
            self, "Group", engine=engine, user_group_id=physical_name(self, engine, "group"), user_ids=users
        )


def generated_password(scope: Construct, encryption_key: kms.IKey | None) -> secretsmanager.Secret:
    """Return a secret with a new password in it."""
    secret = secretsmanager.Secret(
        scope,
        "Password",
        description="Password of the Kong audit trail's cache",
        encryption_key=encryption_key,
        generate_secret_string=secretsmanager.SecretStringGenerator(
            password_length=64,
            exclude_punctuation=True,  # ElastiCache takes 16 to 128 characters, of the punctuation only a few
        ),
    )
    accept(
        secret,
        ("AwsSolutions-SMG4", *controls("SecretsManagerRotationEnabled")),
        "The password is one half of a pair: changing the secret alone would lock the function out. CloudFormation "
        "sets both. It is generated, read by the function's role only, and of use only inside the cache's "
        "security group, which admits the function alone.",
    )
    if encryption_key is None:
        accept_amazons_key(secret, "SecretsManagerUsingKMSKey", "CKV_AWS_149")
    return secret


def physical_name(scope: Construct, *parts: object) -> str:
    """Return a name for what AWS does not name by itself, unique in account and region.

    It follows from the stack's name and the construct's path, so two constructs in a stack, or the same construct in
    two stacks, get different names.

    Parameters
    ----------
    scope : Construct
        What is named, or its parent.
    parts
        What else the name follows from: whatever cannot be changed of the resource. CloudFormation creates the
        replacement before it removes the old one, so the two must not have the same name.
    """
    stack = Stack.of(scope)
    # A nested stack gets its name at deployment. Before, it is a token, whose number follows from what else is in the
    # app: the cache would be replaced because of a stranger. The path tells nested stacks apart.
    while stack.nested_stack_parent is not None:
        stack = stack.nested_stack_parent
    resolved = [part if isinstance(part, str) else json.dumps(stack.resolve(part)) for part in parts]
    unique = "/".join([stack.stack_name, scope.node.path, *resolved])
    return f"kong-audit-{hashlib.sha256(unique.encode()).hexdigest()[:20]}"
