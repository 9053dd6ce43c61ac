"""The bucket that outlives everything else: checkpoint, quarantine, originals, run reports."""

from collections.abc import Iterator

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from ..errors import SettingsError
from ..settings.groups import LedgerOptions
from .buckets import private_bucket
from .grants import allow, allow_key
from .nag import accept, accept_amazons_key, accept_wildcard, controls

PASSING = ("answers", "doctor")
"""Folders of what nobody needs for long: long answers to verbs, and what `doctor` writes to see whether it can."""
PASSING_DAYS = 7


class Ledger(Construct):
    """An encrypted, versioned, private bucket that stays when the stack goes.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    options : LedgerOptions, optional
        A bucket to use instead, or how the new one is to be. Default: those of `LedgerOptions`.
    encryption_key : kms.IKey, optional
        Key of the new bucket. Default: S3's own.

    Attributes
    ----------
    bucket : s3.IBucket
        The bucket.
    prefix : str
        First part of every key, without a slash at its end; empty for none.
    url : str
        ``s3://bucket/prefix``, as the function's ``LEDGER``.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        options: LedgerOptions | None = None,
        encryption_key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        options = options or LedgerOptions()
        self.bucket = options.existing_bucket or self._new_bucket(options, encryption_key)
        self.prefix = options.prefix or ""
        self.url = f"s3://{self.bucket.bucket_name}/{self.prefix}"

    @staticmethod
    def from_attributes(
        scope: Construct,
        construct_id: str,
        *,
        bucket_name: str,
        prefix: str = "",
        encryption_key: kms.IKey | None = None,
    ) -> "Ledger":
        """Return the ledger of an integration in another app, for integrations of this one to share.

        Parameters
        ----------
        scope, construct_id
            As for every construct.
        bucket_name : str
            Name of the bucket.
        prefix : str, optional
            First part of every key, without a slash at its end. Default: none.
        encryption_key : kms.IKey, optional
            The customer's key that the bucket is encrypted with. Default: S3's own.

        Raises
        ------
        SettingsError
            With everything that is wrong with them.
        """
        attributes = Construct(scope, construct_id)
        bucket = s3.Bucket.from_bucket_attributes(
            attributes, "Bucket", bucket_name=bucket_name, encryption_key=encryption_key
        )
        options = LedgerOptions(existing_bucket=bucket, prefix=prefix)
        if problems := list(options.problems()):
            raise SettingsError(problems)
        return Ledger(attributes, "Ledger", options=options)

    def _new_bucket(self, options: LedgerOptions, encryption_key: kms.IKey | None) -> s3.Bucket:
        bucket = private_bucket(
            self,
            "Bucket",
            bucket_name=options.bucket_name,
            encryption_key=encryption_key,
            versioned=True,
            server_access_logs_bucket=options.server_access_logs_bucket,
            lifecycle_rules=list(_lifecycle(options.prefix or "")),
            removal_policy=options.removal_policy or RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        if options.server_access_logs_bucket is None:
            accept(
                bucket,
                ("AwsSolutions-S1", *controls("S3BucketLoggingEnabled"), "CKV_AWS_18"),
                "One function writes here, a few objects per run, and its run reports, chained by hashes, are the "
                "record of it. Versioning keeps whatever is overwritten or deleted. Who else touched an object is what "
                "the account's CloudTrail data events tell, without a second bucket to protect.",
            )
        accept(
            bucket,
            controls("S3BucketReplicationEnabled"),
            "The events themselves are in CloudTrail Lake. What is here is versioned and stays; whether it has to be "
            "in another region as well is for its owner to say, by the bucket's node.default_child.",
        )
        accept(
            bucket,
            controls("S3BucketDefaultLockEnabled"),
            "The checkpoint is written anew by every run, and a lock by default would keep each of its versions. The "
            "run reports, chained by hashes, show what was taken away. A bucket with a lock can be brought along.",
        )
        if encryption_key is None:
            accept_amazons_key(bucket, "S3DefaultEncryptionKMS")
        return bucket

    @property
    def _objects(self) -> str:
        return f"{self.prefix}/*" if self.prefix else "*"

    def grant_read(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let somebody read this ledger's objects, and list the bucket: an auditor, say."""
        return self.bucket.grant_read(grantee, self._objects)

    def grant_leaving_quarantine(self, role: iam.IRole) -> None:
        """Let a role remove entries from quarantine, once they are kept elsewhere. The bucket keeps the versions."""
        objects = self.bucket.arn_for_objects(f"{self.prefix}/quarantine/*" if self.prefix else "quarantine/*")
        allow(role, ("s3:DeleteObject",), objects)
        accept_wildcard(
            role, objects, "An entry's name contains its id; the wildcard ends at this ledger's quarantine."
        )

    def grant_use(self, role: iam.IRole) -> None:
        """Let a role read and add objects; not delete them, nor their versions."""
        objects = self.bucket.arn_for_objects(self._objects)
        allow(role, ("s3:GetObject", "s3:PutObject"), objects)
        accept_wildcard(
            role, objects, "The objects' names contain times and ids; the wildcard ends at this ledger's own prefix."
        )
        # Without it S3 answers 403 instead of 404 for an object that is not there yet, such as the first checkpoint.
        # A condition on the prefix would undo that, because reading an object carries none.
        allow(role, ("s3:ListBucket",), self.bucket.bucket_arn)
        if self.bucket.encryption_key is not None:
            allow_key(role, self.bucket.encryption_key, ("kms:Decrypt", "kms:GenerateDataKey"), service="s3")


def _lifecycle(prefix: str) -> Iterator[s3.LifecycleRule]:
    for folder in PASSING:
        yield s3.LifecycleRule(
            id=folder.capitalize(),
            prefix=f"{prefix}/{folder}/" if prefix else f"{folder}/",
            expiration=Duration.days(PASSING_DAYS),
            # The bucket keeps versions, so what has expired is only hidden until this.
            noncurrent_version_expiration=Duration.days(1),
        )
