"""What every bucket here has: encryption, TLS only, no public access, no access lists."""

from typing import Any

from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct


def private_bucket(
    scope: Construct, construct_id: str, *, encryption_key: kms.IKey | None, **properties: Any
) -> s3.Bucket:
    """Return a new bucket.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    encryption_key : kms.IKey or None
        Key of the objects. None: S3's own.
    properties
        As of `s3.Bucket`: what differs from bucket to bucket.
    """
    kms_encrypted = encryption_key is not None
    return s3.Bucket(
        scope,
        construct_id,
        encryption=s3.BucketEncryption.KMS if kms_encrypted else s3.BucketEncryption.S3_MANAGED,
        encryption_key=encryption_key,
        bucket_key_enabled=True if kms_encrypted else None,
        enforce_ssl=True,
        minimum_tls_version=1.2,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
        **properties,
    )
