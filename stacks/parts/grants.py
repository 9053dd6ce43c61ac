"""Permissions for the function's role, one narrow statement at a time."""

from aws_cdk import Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager

from .keys import resolved


def allow(role: iam.IRole, actions: tuple[str, ...], *resources: str) -> None:
    """Allow actions on resources, by a policy of the role."""
    role.add_to_principal_policy(iam.PolicyStatement(actions=list(actions), resources=list(resources)))


def allow_reading(role: iam.IRole, secret: secretsmanager.ISecret, key: kms.IKey | None = None) -> None:
    """Allow reading the value of a secret, and of nothing else about it.

    Parameters
    ----------
    role : iam.IRole
        Who may read it.
    secret : secretsmanager.ISecret
        The secret.
    key : kms.IKey or None
        The key that it is encrypted with, where the secret itself does not tell.
    """
    # An ARN without its random suffix is what a secret's name, or a partial ARN, gives.
    allow(role, ("secretsmanager:GetSecretValue",), secret.secret_full_arn or f"{secret.secret_arn}-??????")
    key = secret.encryption_key or key
    if key is not None:
        allow_key(role, key, ("kms:Decrypt",), service="secretsmanager")


def allow_key(role: iam.IRole, key: kms.IKey, actions: tuple[str, ...], *, service: str) -> None:
    """Allow using a key, through one service of this region only."""
    role.add_to_principal_policy(
        iam.PolicyStatement(
            actions=list(actions),
            resources=[resolved(key).key_arn],
            conditions={"StringEquals": {"kms:ViaService": f"{service}.{Stack.of(role).region}.amazonaws.com"}},
        )
    )
