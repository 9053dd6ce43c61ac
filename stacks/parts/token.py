"""The secret with Kong's token: brought along, or made here, empty, for somebody to fill."""

from dataclasses import dataclass
from typing import cast

from aws_cdk import Stack
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from .nag import accept, accept_amazons_key, controls

_ID = "KongAdminToken"


@dataclass(frozen=True, kw_only=True)
class KongToken:
    """Where Kong's token is.

    Attributes
    ----------
    secret : secretsmanager.ISecret or None
        The secret that holds it; None where no token is needed.
    is_new : bool
        Whether that secret was created here, empty.
    """

    secret: secretsmanager.ISecret | None = None
    is_new: bool = False

    @classmethod
    def in_secret(
        cls, scope: Construct, secret: secretsmanager.ISecret | str | None, encryption_key: kms.IKey | None
    ) -> "KongToken":
        """Return the token in a secret, or in a new one.

        Parameters
        ----------
        scope : Construct
            The parent of what is created.
        secret : secretsmanager.ISecret or str or None
            The secret, its ARN or its name. None: a new one is created.
        encryption_key : kms.IKey or None
            Key of a new secret. None: AWS's own.
        """
        if secret is None:
            return cls(secret=_new_secret(scope, encryption_key), is_new=True)
        return cls(secret=_imported(scope, secret) if isinstance(secret, str) else secret)

    @property
    def fill_command(self) -> str | None:
        """The command that puts the token into a new secret without showing it; None where there is no new secret."""
        if self.secret is None or not self.is_new:
            return None
        # Neither the shell's history nor the list of processes shows what `read` reads and `printf` prints.
        return (
            'read -rs TOKEN; printf %s "$TOKEN" | aws secretsmanager put-secret-value '
            f"--region {Stack.of(self.secret).region} --secret-id {self.secret.secret_arn} "
            "--secret-string file:///dev/stdin"
        )


def _imported(scope: Construct, secret: str) -> secretsmanager.ISecret:
    if not secret.startswith("arn:"):
        return secretsmanager.Secret.from_secret_name_v2(scope, _ID, secret)
    if secret[-7] == "-":
        return secretsmanager.Secret.from_secret_complete_arn(scope, _ID, secret)
    return secretsmanager.Secret.from_secret_partial_arn(scope, _ID, secret)


def _new_secret(scope: Construct, encryption_key: kms.IKey | None) -> secretsmanager.Secret:
    secret = secretsmanager.Secret(scope, _ID, description="Token for Kong's Admin API", encryption_key=encryption_key)
    # CDK generates a value where none is given. Kong would refuse that one; an empty secret says what is wrong.
    cast(secretsmanager.CfnSecret, secret.node.default_child).add_property_deletion_override("GenerateSecretString")
    accept(
        secret,
        ("AwsSolutions-SMG4", *controls("SecretsManagerRotationEnabled")),
        "Kong issues this token, so a new one is put here by hand. The function fetches it anew when Kong "
        "refuses the old one.",
    )
    if encryption_key is None:
        accept_amazons_key(secret, "SecretsManagerUsingKMSKey", "CKV_AWS_149")
    return secret
