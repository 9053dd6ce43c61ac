"""SQL over an archive: a table in Glue, and a workgroup of Athena with named queries. No crawler, nothing to repair."""

from collections.abc import Mapping, Sequence

from aws_cdk import ArnFormat, Duration, RemovalPolicy, Stack
from aws_cdk import aws_athena as athena
from aws_cdk import aws_glue as glue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from .archive import ArchiveBucket
from .archive_sql import NAMED_QUERIES, TABLE, statement
from .buckets import private_bucket
from .cache_access import physical_name
from .nag import accept, accept_amazons_key, controls

SCAN_LIMIT_GIB = 100
RESULTS_DAYS = 30
"""How long Athena's results are kept. A query can be run again, and its answer is not evidence."""

_GIB = 1024**3

_SERDE = "org.openx.data.jsonserde.JsonSerDe"
_COLUMNS: Mapping[str, Sequence[tuple[str, str]]] = {
    "json": (
        ("key", "string"),
        ("schemaVersion", "bigint"),
        ("version", "string"),
        ("userIdentity", "string"),
        ("eventSource", "string"),
        ("eventName", "string"),
        ("eventTime", "string"),
        ("UID", "string"),
        ("recipientAccountId", "string"),
        ("requestParameters", "string"),
        ("sourceIPAddress", "string"),
        ("errorCode", "string"),
        ("errorMessage", "string"),
        ("additionalEventData", "string"),
        ("notMappable", "string"),
        ("entry", "string"),
        ("entryText", "string"),
    ),
    "ocsf": (
        ("metadata", "string"),
        ("class_uid", "bigint"),
        ("class_name", "string"),
        ("category_uid", "bigint"),
        ("category_name", "string"),
        ("time", "bigint"),
        ("severity_id", "bigint"),
        ("severity", "string"),
        ("activity_id", "bigint"),
        ("activity_name", "string"),
        ("type_uid", "bigint"),
        ("type_name", "string"),
        ("status_id", "bigint"),
        ("status", "string"),
        ("status_code", "string"),
        ("actor", "string"),
        ("src_endpoint", "string"),
        ("api", "string"),
        ("resources", "string"),
        ("http_request", "string"),
        ("dst_endpoint", "string"),
        ("unmapped", "string"),
    ),
}
"""The fields of a line, which are columns of the same names in lower case. What is an object or a list in a line is its
JSON text: ``json_extract`` reads it, and no line can have a value that a column cannot hold."""

_STREAMS = ("requests", "objects")
_FIRST_DAY = "2015-01-01"
"""The day of entries without a usable time; older than every gateway with an audit log."""
_LAST_DAY = "NOW+31DAYS"
"""An entry is archived by the time that Kong gave it, and Kong's clock may be ahead."""


class ArchiveQueries(Construct):
    """A database with one table, and a workgroup whose results are encrypted and whose queries have a limit.

    Parameters
    ----------
    scope, construct_id
        As for every construct.
    archive : ArchiveBucket
        What is queried.
    line_format : str
        ``json`` or ``ocsf``: what lines are.
    scan_limit_gib : int, optional
        What a query may read at most. Default: 100.
    encryption_key : kms.IKey, optional
        Key of the results. Default: S3's own.

    Attributes
    ----------
    database : glue.CfnDatabase
        The database.
    table : glue.CfnTable
        The table, ``events``.
    workgroup : athena.CfnWorkGroup
        The workgroup.
    results : s3.Bucket
        The bucket of Athena's results, which go after 30 days.
    named_queries : Mapping of str to athena.CfnNamedQuery
        The named queries.
    database_name, table_name, workgroup_name : str
        Their names, known before the deployment.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        archive: ArchiveBucket,
        line_format: str,
        scan_limit_gib: int | None = None,
        encryption_key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        self._archive = archive
        self.workgroup_name = physical_name(self)
        self.database_name, self.table_name = self.workgroup_name.replace("-", "_"), TABLE
        self.results = self._new_results(encryption_key)
        self.database = glue.CfnDatabase(
            self,
            "Database",
            catalog_id=Stack.of(self).account,
            database_input=glue.CfnDatabase.DatabaseInputProperty(
                name=self.database_name, description="Kong Gateway's audit trail, archived in S3"
            ),
        )
        self.table = self._new_table(line_format)
        self.workgroup = self._new_workgroup(encryption_key, scan_limit_gib or SCAN_LIMIT_GIB)
        self.named_queries: Mapping[str, athena.CfnNamedQuery] = {
            query.name: self._new_query(query.name, query.description, statement(query, line_format))
            for query in NAMED_QUERIES
        }

    def _new_results(self, encryption_key: kms.IKey | None) -> s3.Bucket:
        bucket = private_bucket(
            self,
            "Results",
            encryption_key=encryption_key,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="Results",
                    expiration=Duration.days(RESULTS_DAYS),
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                )
            ],
            # A bucket that is not empty cannot be removed. This one empties itself.
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        accept(
            bucket,
            ("AwsSolutions-S1", *controls("S3BucketLoggingEnabled"), "CKV_AWS_18"),
            "It holds answers of queries for a month. Who asked what is in CloudTrail, as StartQueryExecution.",
        )
        accept(
            bucket,
            (
                *controls("S3BucketReplicationEnabled", "S3BucketVersioningEnabled", "S3BucketDefaultLockEnabled"),
                "CKV_AWS_21",
            ),
            "It holds answers of queries for a month, which the archive gives again: nothing here is evidence.",
        )
        if encryption_key is None:
            accept_amazons_key(bucket, "S3DefaultEncryptionKMS")
        return bucket

    def _new_table(self, line_format: str) -> glue.CfnTable:
        location = f"s3://{self._archive.bucket.bucket_name}/{self._archive.prefix}/"
        columns = _COLUMNS[line_format]
        table = glue.CfnTable(
            self,
            "Table",
            catalog_id=Stack.of(self).account,
            database_name=self.database_name,
            table_input=glue.CfnTable.TableInputProperty(
                name=self.table_name,
                description="One row for each entry of the audit log. Objects and lists are JSON text: json_extract.",
                table_type="EXTERNAL_TABLE",
                partition_keys=[
                    glue.CfnTable.ColumnProperty(name="source", type="string", comment="the gateway"),
                    glue.CfnTable.ColumnProperty(name="stream", type="string", comment="requests or objects"),
                    glue.CfnTable.ColumnProperty(
                        name="day",
                        type="string",
                        comment=f"YYYY-MM-DD in UTC, by the entry's own time; {_FIRST_DAY} if it has none",
                    ),
                ],
                parameters={
                    "EXTERNAL": "TRUE",
                    "classification": "json",
                    "compressionType": "gzip",
                    "projection.enabled": "true",
                    "projection.source.type": "enum",
                    "projection.source.values": self._archive.source,
                    "projection.stream.type": "enum",
                    "projection.stream.values": ",".join(_STREAMS),
                    "projection.day.type": "date",
                    "projection.day.format": "yyyy-MM-dd",
                    "projection.day.range": f"{_FIRST_DAY},{_LAST_DAY}",
                    "projection.day.interval": "1",
                    "projection.day.interval.unit": "DAYS",
                    "storage.location.template": f"{location}source=${{source}}/stream=${{stream}}/day=${{day}}/",
                },
                storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                    columns=[glue.CfnTable.ColumnProperty(name=name.lower(), type=kind) for name, kind in columns],
                    location=location,
                    input_format="org.apache.hadoop.mapred.TextInputFormat",
                    output_format="org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
                    compressed=True,
                    serde_info=glue.CfnTable.SerdeInfoProperty(
                        serialization_library=_SERDE,
                        parameters={
                            # Otherwise keys inside of objects are read in lower case, and a payload with two keys
                            # that differ in case alone fails the query.
                            "case.insensitive": "false",
                            **{f"mapping.{name.lower()}": name for name, _ in columns if name != name.lower()},
                        },
                    ),
                ),
            ),
        )
        table.node.add_dependency(self.database)
        return table

    def _new_workgroup(self, encryption_key: kms.IKey | None, scan_limit_gib: int) -> athena.CfnWorkGroup:
        key_arn = None if encryption_key is None else encryption_key.key_arn
        return athena.CfnWorkGroup(
            self,
            "Workgroup",
            name=self.workgroup_name,
            description="Queries over Kong Gateway's audit trail",
            # With the history of queries, which would otherwise keep the stack from being removed.
            recursive_delete_option=True,
            work_group_configuration=athena.CfnWorkGroup.WorkGroupConfigurationProperty(
                # Nobody's client settings send results elsewhere, or unencrypted.
                enforce_work_group_configuration=True,
                publish_cloud_watch_metrics_enabled=True,
                requester_pays_enabled=False,
                bytes_scanned_cutoff_per_query=scan_limit_gib * _GIB,
                engine_version=athena.CfnWorkGroup.EngineVersionProperty(
                    selected_engine_version="Athena engine version 3"
                ),
                result_configuration=athena.CfnWorkGroup.ResultConfigurationProperty(
                    output_location=f"s3://{self.results.bucket_name}/",
                    expected_bucket_owner=Stack.of(self).account,
                    encryption_configuration=athena.CfnWorkGroup.EncryptionConfigurationProperty(
                        encryption_option="SSE_S3" if key_arn is None else "SSE_KMS", kms_key=key_arn
                    ),
                ),
            ),
        )

    def _new_query(self, name: str, description: str, query_string: str) -> athena.CfnNamedQuery:
        query = athena.CfnNamedQuery(
            self,
            "".join(part.capitalize() for part in name.split("-")),
            name=name,
            description=description,
            database=self.database_name,
            query_string=query_string,
            work_group=self.workgroup_name,
        )
        query.node.add_dependency(self.workgroup, self.database)
        return query

    def grant_query(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let somebody ask: run queries in this workgroup, over this table, and read the archive's objects."""
        stack = Stack.of(self)

        def glue_arn(resource: str, name: str | None = None) -> str:
            return stack.format_arn(service="glue", resource=resource, resource_name=name)

        workgroup = stack.format_arn(
            service="athena",
            resource="workgroup",
            resource_name=self.workgroup_name,
            arn_format=ArnFormat.SLASH_RESOURCE_NAME,
        )
        grant = iam.Grant.add_to_principal(
            grantee=grantee,
            actions=[
                "athena:BatchGetNamedQuery",
                "athena:GetNamedQuery",
                "athena:GetQueryExecution",
                "athena:GetQueryResults",
                "athena:GetWorkGroup",
                "athena:ListNamedQueries",
                "athena:StartQueryExecution",
                "athena:StopQueryExecution",
            ],
            resource_arns=[workgroup],
        )
        tables = iam.Grant.add_to_principal(
            grantee=grantee,
            actions=["glue:GetDatabase", "glue:GetPartitions", "glue:GetTable"],
            resource_arns=[
                glue_arn("catalog"),
                glue_arn("database", self.database_name),
                glue_arn("table", f"{self.database_name}/{self.table_name}"),
            ],
        )
        location = iam.Grant.add_to_principal(
            grantee=grantee, actions=["s3:GetBucketLocation"], resource_arns=[self._archive.bucket.bucket_arn]
        )
        return (
            grant.combine(tables)
            .combine(location)
            .combine(self._archive.grant_read(grantee))
            .combine(self.results.grant_read_write(grantee))
        )
