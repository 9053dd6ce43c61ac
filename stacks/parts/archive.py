"""The archive's bucket: what is in it stays as it was written, for as long as somebody said."""

from collections.abc import Iterator

from aws_cdk import Annotations, Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from ..settings.groups import Archive
from .buckets import private_bucket
from .grants import allow, allow_key
from .keys import resolved
from .nag import accept, accept_amazons_key, accept_wildcard, controls

PREFIX = "archive"
RETENTION_DAYS = 365
LOCK = "governance"


class ArchiveBucket(Construct):
    """A versioned, encrypted, private bucket with Object Lock, or one that is there already; and a key that signs.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    source : str
        Name of the gateway, whose folder the function may write to.
    options : Archive, optional
        A bucket to use instead, or how the new one is to be. Default: those of `Archive`.
    encryption_key : kms.IKey, optional
        Key of the new bucket. Default: S3's own.

    Attributes
    ----------
    bucket : s3.IBucket
        The bucket.
    prefix : str
        First part of every key, without a slash at its end.
    url : str
        ``s3://bucket/prefix``, as the function's ``ARCHIVE``.
    lock : str
        How Object Lock keeps what is archived in a new bucket.
    signing_key : kms.IKey or None
        The key that signs run reports; None where none does.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        source: str,
        options: Archive | None = None,
        encryption_key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        options = options or Archive()
        self.source, self.prefix, self.lock = source, options.prefix or PREFIX, options.lock or LOCK
        is_new = options.existing_bucket is None
        self.bucket = self._bucket(options, encryption_key)
        self.url = f"s3://{self.bucket.bucket_name}/{self.prefix}"
        self.signing_key = self._signing_key(options)
        if not self._is_another_gateways():
            refused = [statement for statement in self._protection() if not self._add(statement)]
            if not is_new:
                self._say_what_it_needs(policy_is_out_of_reach=bool(refused))
        if is_new and self.lock == "compliance":
            days = "a day" if _days(options) == 1 else f"{_days(options)} days"
            Annotations.of(self).add_warning_v2(
                "kong-cloudtrail:Archive.lock",
                "Archive.lock: is compliance. Whatever is archived, nobody can delete it, or shorten how long it is "
                f"kept ({days}): neither you, nor the account's root user, nor AWS. Only closing the "
                "account ends it. A day's retention, or governance, is for trying it out.",
            )

    def _bucket(self, options: Archive, encryption_key: kms.IKey | None) -> s3.IBucket:
        given = options.existing_bucket
        if given is None:
            return self._new_bucket(options, encryption_key)
        if isinstance(given, str):
            return s3.Bucket.from_bucket_attributes(self, "Bucket", bucket_name=given, encryption_key=encryption_key)
        return given

    def _new_bucket(self, options: Archive, encryption_key: kms.IKey | None) -> s3.Bucket:
        days = Duration.days(_days(options))
        bucket = private_bucket(
            self,
            "Bucket",
            bucket_name=options.bucket_name,
            encryption_key=encryption_key,
            versioned=True,
            server_access_logs_bucket=options.server_access_logs_bucket,
            # Without a default retention too: it allows legal holds, and a default later, without another bucket.
            object_lock_enabled=True,
            object_lock_default_retention={
                "governance": s3.ObjectLockRetention.governance(days),
                "compliance": s3.ObjectLockRetention.compliance(days),
            }.get(self.lock),
            lifecycle_rules=list(_lifecycle(options)),
            # A deployment that fails removes the bucket again, which is empty, and can be repeated.
            removal_policy=options.removal_policy or RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        if options.server_access_logs_bucket is None:
            accept(
                bucket,
                ("AwsSolutions-S1", *controls("S3BucketLoggingEnabled"), "CKV_AWS_18"),
                "One function writes here, once for each object, and its run reports, chained by hashes, name each "
                "object with its hash. Nothing is overwritten or deleted. Who read an object is what the account's "
                "CloudTrail data events tell; the property server_access_logs_bucket adds S3's own log.",
            )
        accept(
            bucket,
            controls("S3BucketReplicationEnabled"),
            "Whether a copy in another region or account is kept is for its owner to say, by the bucket's "
            "node.default_child: it may not leave the region in some jurisdictions, and costs as much again.",
        )
        if self.lock == "none":
            accept(
                bucket,
                controls("S3BucketDefaultLockEnabled"),
                "Object Lock is on, without a default retention, as the property lock says. The bucket's policy denies "
                "everybody to overwrite or delete what is archived.",
            )
        if encryption_key is None:
            accept_amazons_key(bucket, "S3DefaultEncryptionKMS")
        return bucket

    def _signing_key(self, options: Archive) -> kms.IKey | None:
        given = options.signing_key
        if isinstance(given, str):
            return kms.Key.from_key_arn(self, "SigningKey", given)
        if given is not True:
            return None if given is None or given is False else resolved(given)
        key = kms.Key(
            self,
            "SigningKey",
            description="Signs the run reports of the Kong audit trail",
            # As CloudTrail signs its own digests. A signature of RSA can be checked by openssl, or with a language's
            # whole numbers alone, for as long as anybody may ask; 3072 bits are good for 128 bits of security.
            key_spec=kms.KeySpec.RSA_3072,
            key_usage=kms.KeyUsage.SIGN_VERIFY,
            removal_policy=options.removal_policy or RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        accept(
            key,
            ("AwsSolutions-KMS5", *controls("KMSBackingKeyRotationEnabled"), "CKV_AWS_7"),
            "An asymmetric key cannot be rotated by KMS, and what it signed has to be verified by it for years.",
        )
        return key

    def _is_another_gateways(self) -> bool:
        """Say whether another gateway of this app has the same place, and has seen to it."""
        maker = self.bucket.node.scope
        return isinstance(maker, ArchiveBucket) and maker is not self and maker.prefix == self.prefix

    @property
    def _objects(self) -> str:
        return self.bucket.arn_for_objects(f"{self.prefix}/*")

    def _add(self, statement: iam.PolicyStatement) -> bool:
        return bool(self.bucket.add_to_resource_policy(statement).statement_added)

    def _protection(self) -> Iterator[iam.PolicyStatement]:
        """Yield what the bucket's policy denies to everybody. Who may change the policy still can, and is seen to."""
        yield iam.PolicyStatement(
            effect=iam.Effect.DENY,
            principals=[iam.AnyPrincipal()],
            actions=["s3:PutObject"],
            resources=[self._objects],
            # Uploads in several parts, and copies, are denied by it as well: their calls cannot carry the condition.
            conditions={"Null": {"s3:if-none-match": "true"}},
        )
        yield iam.PolicyStatement(
            effect=iam.Effect.DENY,
            principals=[iam.AnyPrincipal()],
            # Without the last one, retention in governance mode can be made longer, and not shorter.
            actions=["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"],
            resources=[self._objects],
        )

    def _say_what_it_needs(self, *, policy_is_out_of_reach: bool) -> None:
        policy = (
            ", and a policy that denies everybody s3:PutObject without If-None-Match, s3:DeleteObject, "
            f"s3:DeleteObjectVersion and s3:BypassGovernanceRetention below {self.prefix}/"
            if policy_is_out_of_reach
            else ""
        )
        Annotations.of(self).add_warning_v2(
            "kong-cloudtrail:Archive.existing_bucket",
            "Archive.existing_bucket: how it is set cannot be seen from here. See that it has versioning (without it, "
            "what is removed may be archived again), Object Lock with a default retention (without it, what is "
            f"archived can be deleted){policy}. docs/archive.md shows how.",
        )

    def grant_read(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let somebody read the archive's objects, and list the bucket: an auditor, say."""
        return self.bucket.grant_read(grantee, f"{self.prefix}/*")

    def grant_use(self, role: iam.IRole) -> None:
        """Let a role read, list and add objects of this gateway, and sign; not delete or overwrite anything."""
        folder = f"{self.prefix}/source={self.source}/*"
        objects = self.bucket.arn_for_objects(folder)
        allow(role, ("s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"), objects)
        accept_wildcard(
            role,
            objects,
            "The objects' names contain days and numbers; the wildcard ends at this gateway's own folder.",
        )
        for action, condition in (
            ("s3:ListBucketVersions", "StringLike"),
            # The same. Besides, with this permission S3 answers 404 instead of 403 where a part is missing, and reading
            # an object carries no prefix.
            ("s3:ListBucket", "StringLikeIfExists"),
        ):
            role.add_to_principal_policy(
                iam.PolicyStatement(
                    actions=[action], resources=[self.bucket.bucket_arn], conditions={condition: {"s3:prefix": folder}}
                )
            )
        # For the verb doctor: whether what protects the archive is still there. It shows nothing of what is in it.
        allow(
            role,
            ("s3:GetBucketObjectLockConfiguration", "s3:GetBucketPolicy", "s3:GetBucketVersioning"),
            self.bucket.bucket_arn,
        )
        if self.bucket.encryption_key is not None:
            allow_key(role, self.bucket.encryption_key, ("kms:Decrypt", "kms:GenerateDataKey"), service="s3")
        if self.signing_key is not None:
            allow(role, ("kms:GetPublicKey", "kms:Sign"), self.signing_key.key_arn)


def _days(options: Archive) -> int:
    return RETENTION_DAYS if options.retention is None else int(options.retention.to_days())


def _lifecycle(options: Archive) -> Iterator[s3.LifecycleRule]:
    # Uploads in several parts are denied below the prefix, and nobody else is known to write here.
    yield s3.LifecycleRule(id="Unfinished", abort_incomplete_multipart_upload_after=Duration.days(1))
    if options.glacier_ir_after is not None:
        yield s3.LifecycleRule(
            id="Colder",
            prefix=f"{options.prefix or PREFIX}/",
            transitions=[
                s3.Transition(
                    storage_class=s3.StorageClass.GLACIER_INSTANT_RETRIEVAL, transition_after=options.glacier_ir_after
                )
            ],
        )
