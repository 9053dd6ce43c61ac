"""Signing in to ElastiCache with the AWS credentials of the process: a signed token instead of a password.

https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html
"""

from __future__ import annotations

from urllib.parse import urlencode

import boto3
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from redis.credentials import CredentialProvider

from ..errors import SecretUnavailable

TOKEN_SECONDS = 900
"""For how long a token can be used to connect. The connection itself stays open for 12 hours."""


class ElastiCacheIam(CredentialProvider):
    """Gives redis-py a new token for every connection that it opens.

    Parameters
    ----------
    user
        The cache's user; its id and its name are the same.
    cache
        Name of the serverless cache, or id of the replication group.
    region
        Region of the cache.
    serverless
        Whether it is a serverless cache.
    """

    def __init__(self, user: str, cache: str, region: str, *, serverless: bool) -> None:
        self._user = user
        self._cache = cache
        self._region = region
        self._serverless = serverless
        self._session = boto3.Session()

    def get_credentials(self) -> tuple[str, str]:
        """Return the user, and a token that is valid for 15 minutes.

        Raises
        ------
        SecretUnavailable
            If there are no AWS credentials to sign with, or they cannot be fetched.
        """
        # Read each time: the credentials of a role are replaced while the process runs.
        try:
            credentials = self._session.get_credentials()
            frozen = None if credentials is None else credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise SecretUnavailable(
                f"The AWS credentials to sign in to the cache could not be fetched ({type(error).__name__}). Check the "
                "role of the process, and that the source of its credentials can be reached."
            ) from error
        if frozen is None:
            raise SecretUnavailable(
                "There are no AWS credentials to sign in to the cache. Give the process a role, or use a password "
                "(REDIS_PASSWORD_SECRET instead of REDIS_IAM_CACHE)."
            )
        query = {"Action": "connect", "User": self._user}
        if self._serverless:
            query["ResourceType"] = "ServerlessCache"
        request = AWSRequest("GET", f"http://{self._cache}/?{urlencode(query)}")
        SigV4QueryAuth(frozen, "elasticache", self._region, TOKEN_SECONDS).add_auth(request)
        return self._user, str(request.url).removeprefix("http://")
