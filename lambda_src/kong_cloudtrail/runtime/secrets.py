"""Secrets from AWS Secrets Manager."""

from __future__ import annotations

from collections.abc import Callable

import boto3
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ..errors import SecretUnavailable

MAX_AGE_SECONDS = 300


class Secrets:
    """Reads secrets, and caches each for `MAX_AGE_SECONDS`.

    Parameters
    ----------
    conceal
        Called with the value of each secret read, so that no log line shows it.
    connect_seconds, answer_seconds
        How long to wait for a connection, and for each part of an answer, in each of three attempts.
    """

    def __init__(
        self, conceal: Callable[[str], None], *, connect_seconds: float = 5.0, answer_seconds: float = 10.0
    ) -> None:
        self._conceal = conceal
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 3},
            connect_timeout=connect_seconds,
            read_timeout=answer_seconds,
        )
        self._provider = SecretsProvider(boto3_client=boto3.client("secretsmanager", config=config))

    def read(self, name: str, *, fresh: bool = False) -> str:
        """Return the value of a secret, without white space around it.

        Parameters
        ----------
        name
            ARN or name.
        fresh
            Whether to ask Secrets Manager even if the value is cached.

        Raises
        ------
        SecretUnavailable
            If the secret cannot be read, or is empty.
        """
        try:
            value = self._provider.get(name, max_age=MAX_AGE_SECONDS, force_fetch=fresh)
        except (GetParameterError, ClientError, BotoCoreError) as error:
            raise SecretUnavailable(
                f"The secret {name} could not be read ({_reason(error)}). Check its name, the role's permission "
                "secretsmanager:GetSecretValue on it, and the path to Secrets Manager (NAT or an interface endpoint). "
                "If the secret is encrypted with a key of your own, the role also needs kms:Decrypt on that key."
            ) from None
        text = value.decode() if isinstance(value, bytes) else str(value or "")
        if not text.strip():
            raise SecretUnavailable(
                f"The secret {name} is empty. Fill it: aws secretsmanager put-secret-value --secret-id {name} "
                "--secret-string file://FILE"
            )
        self._conceal(text.strip())
        return text.strip()


def _reason(error: BaseException) -> str:
    """Return the service's error code, or the type of the error, but never its text."""
    cause = error if isinstance(error, ClientError) else error.__cause__ or error.__context__ or error
    if isinstance(cause, ClientError):
        return str(cause.response.get("Error", {}).get("Code", "unknown"))
    return type(cause).__name__
