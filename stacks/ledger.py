"""The bucket that outlives everything else: checkpoint, quarantine, originals, run reports."""

from aws_cdk import RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from .reviewed import accept, accept_wildcard


class Ledger(Construct):
    """An encrypted, versioned, private bucket that stays when the stack goes.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    prefix : str
        First part of every key, without a slash at its end; empty for none.

    Attributes
    ----------
    bucket : s3.Bucket
        The bucket.
    url : str
        ``s3://bucket/prefix``, as the function's ``LEDGER``.
    """

    def __init__(self, scope: Construct, construct_id: str, *, prefix: str) -> None:
        super().__init__(scope, construct_id)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            encryption=s3.BucketEncryption.S3_MANAGED,
            versioned=True,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            removal_policy=RemovalPolicy.RETAIN,
        )
        accept(
            self.bucket,
            "AwsSolutions-S1",
            "One function writes here, a few objects per run, and its run reports, chained by hashes, are the record "
            "of it. Versioning keeps whatever is overwritten or deleted. Who else touched an object is what the "
            "account's CloudTrail data events tell, without a second bucket to protect.",
        )
        self._prefix = f"{prefix}/" if prefix else ""
        self.url = f"s3://{self.bucket.bucket_name}/{prefix}"

    def grant_use(self, role: iam.Role) -> None:
        """Let a role read and add objects; not delete them, nor their versions."""
        objects = self.bucket.arn_for_objects(f"{self._prefix}*")
        role.add_to_policy(iam.PolicyStatement(actions=["s3:GetObject", "s3:PutObject"], resources=[objects]))
        accept_wildcard(
            role, objects, "The objects' names contain times and ids; the wildcard ends at this ledger's own prefix."
        )
        # Without it S3 answers 403 instead of 404 for an object that is not there yet, such as the first checkpoint.
        # A condition on the prefix would undo that, because reading an object carries none.
        role.add_to_policy(iam.PolicyStatement(actions=["s3:ListBucket"], resources=[self.bucket.bucket_arn]))
