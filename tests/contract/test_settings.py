"""Settings: every name that the documentation promises, every mistake named at once, and no secret shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme
from kong_cloudtrail.errors import SettingsError
from kong_cloudtrail.settings import Secret, Settings
from kong_cloudtrail.variables import Channel

from tests.helpers import ACCOUNT_ID, REPOSITORY, settings_environment

ARN = settings_environment()["CHANNEL_ARN"]
PEM = trustme.CA().cert_pem.bytes().decode("ascii").strip()


def read(**changes: str | None) -> Settings:
    return Settings.from_mapping(settings_environment(**changes))


def problems_of(**changes: str | None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as error:
        read(**changes)
    return error.value.problems


def test_no_destination_is_a_choice_to_make() -> None:
    [problem] = problems_of(CHANNEL_ARN=None)

    assert problem.startswith("DESTINATION: there is none. For an archive in S3, which every account can have, set")
    assert "set CHANNEL_ARN to the ARN of a channel, e.g. arn:aws:cloudtrail:" in problem


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"DESTINATION": "archive"}, "ARCHIVE: is missing, but DESTINATION names archive; set ARCHIVE to s3://"),
        (
            {"DESTINATION": "cloudtrail-lake", "CHANNEL_ARN": None, "ARCHIVE": "./archive"},
            "CHANNEL_ARN: is missing, but DESTINATION names cloudtrail-lake; set CHANNEL_ARN to",
        ),
    ],
)
def test_destination_needs_its_place(given: dict[str, str | None], problem: str) -> None:
    [found] = problems_of(**given)

    assert found.startswith(problem)


def test_archive_alone_is_enough() -> None:
    settings = Settings.from_mapping({"ARCHIVE": "./archive"})

    assert (settings.destinations, settings.ledger) == (("archive",), "./archive/_ledger")


def test_channel_alone_is_enough() -> None:
    expected = {
        "kong_admin_api": "http://localhost:8001",
        "kong_needs_token": False,
        "kong_admin_token": None,
        "kong_admin_token_secret": None,
        "kong_root_ca": None,
        "redis_host": "localhost",
        "redis_port": 6379,
        "redis_db": 0,
        "redis_tls": False,
        "redis_username": None,
        "redis_password": None,
        "redis_password_secret": None,
        "destinations": ("cloudtrail-lake",),
        "channel": Channel(ARN, "us-east-1", ACCOUNT_ID),
        "archive": None,
        "archive_format": "json",
        "archive_signing_key": None,
        "external_id": None,
        "event_data_store": None,
        "map_status_to_error_code": False,
        "source_name": "kong",
        "ledger": None,
        "overlap_seconds": 900,
        "initial_lookback_seconds": None,
        "sweep_seconds": 86400,
        "page_size": 1000,
        "parallel_deliveries": 8,
    }

    settings = Settings.from_mapping({"CHANNEL_ARN": ARN})

    assert {name: getattr(settings, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("variable", "value", "attribute", "expected"),
    [
        ("KONG_ADMIN_API", "https://kong:8444/base/path/", "kong_admin_api", "https://kong:8444/base/path"),
        ("KONG_ADMIN_API", "HTTPS://kong_1.internal.", "kong_admin_api", "HTTPS://kong_1.internal."),
        ("KONG_ADMIN_API", "http://[::1]:8001", "kong_admin_api", "http://[::1]:8001"),
        ("KONG_ADMIN_API", " https://kong:8444 ", "kong_admin_api", "https://kong:8444"),
        ("KONG_ADMIN_TOKEN", "t0ken", "kong_admin_token", Secret("t0ken")),
        ("KONG_ADMIN_TOKEN", "t0ken", "kong_needs_token", True),
        ("KONG_ADMIN_TOKEN_SECRET", "kong/token", "kong_admin_token_secret", "kong/token"),
        ("KONG_ADMIN_TOKEN_SECRET", "kong/token", "kong_needs_token", True),
        ("KONG_ROOT_CA", "", "kong_root_ca", None),
        ("KONG_ROOT_CA", "null", "kong_root_ca", None),
        ("KONG_ROOT_CA", "Disabled", "kong_root_ca", None),
        ("KONG_ROOT_CA", PEM, "kong_root_ca", PEM.strip()),
        ("REDIS_HOST", "cache.example.com:6380", "redis_host", "cache.example.com"),
        ("REDIS_HOST", "cache.example.com:6380", "redis_port", 6380),
        ("REDIS_HOST", "[::1]:6379", "redis_host", "::1"),
        ("REDIS_DB", "3", "redis_db", 3),
        ("REDIS_DB", "0016", "redis_db", 16),
        ("REDIS_TLS", "TRUE", "redis_tls", True),
        ("REDIS_TLS", "1", "redis_tls", True),
        ("REDIS_TLS", "off", "redis_tls", False),
        ("REDIS_USERNAME", "collector", "redis_username", "collector"),
        ("REDIS_PASSWORD", "pw", "redis_password", Secret("pw")),
        ("REDIS_PASSWORD_SECRET", "cache/password", "redis_password_secret", "cache/password"),
        (
            "CHANNEL_ARN",
            ARN.replace("aws:", "aws-cn:", 1),
            "channel",
            Channel(ARN.replace("aws:", "aws-cn:", 1), "us-east-1", ACCOUNT_ID),
        ),
        ("ARCHIVE", "s3://bucket-1/a/prefix", "destinations", ("archive", "cloudtrail-lake")),
        ("ARCHIVE", "s3://bucket-1/a/prefix", "ledger", None),
        ("ARCHIVE", "./kept/", "archive", "./kept/"),
        ("ARCHIVE", "./kept/", "ledger", "./kept/_ledger"),
        ("ARCHIVE", "/", "ledger", "/_ledger"),
        ("ARCHIVE_FORMAT", "OCSF", "archive_format", "ocsf"),
        ("ARCHIVE_ACCOUNT_ID", ACCOUNT_ID, "archive_account_id", ACCOUNT_ID),
        ("DESTINATION", " CloudTrail-Lake ", "destinations", ("cloudtrail-lake",)),
        ("EXTERNAL_ID", "a+b=c,d.e@f:g/h-i_j", "external_id", "a+b=c,d.e@f:g/h-i_j"),
        ("MAP_STATUS_TO_ERROR_CODE", "yes", "map_status_to_error_code", True),
        ("SOURCE_NAME", "kong.eu-1_a", "source_name", "kong.eu-1_a"),
        ("LEDGER", "s3://bucket-1/a/prefix", "ledger", "s3://bucket-1/a/prefix"),
        ("LEDGER", "s3://bucket-1", "ledger", "s3://bucket-1"),
        ("LEDGER", "./ledger", "ledger", "./ledger"),
        ("OVERLAP_SECONDS", "0", "overlap_seconds", 0),
        ("INITIAL_LOOKBACK_SECONDS", "86400", "initial_lookback_seconds", 86400),
        ("SWEEP_SECONDS", "0", "sweep_seconds", 0),
        ("SWEEP_SECONDS", "3600", "sweep_seconds", 3600),
        ("SWEEP_SECONDS", "2592000", "sweep_seconds", 2592000),
        ("PAGE_SIZE", "1", "page_size", 1),
        ("PARALLEL_DELIVERIES", "64", "parallel_deliveries", 64),
    ],
)
def test_variable_sets_what_it_says(variable: str, value: str, attribute: str, expected: object) -> None:
    assert getattr(read(**{variable: value}), attribute) == expected


@pytest.mark.parametrize("value", ["", "  "])
@pytest.mark.parametrize(
    "variable", ["KONG_ADMIN_API", "REDIS_HOST", "REDIS_DB", "KONG_SUPERADMIN", "LEDGER", "PAGE_SIZE"]
)
def test_empty_value_counts_as_not_given(variable: str, value: str) -> None:
    assert read(**{variable: value}) == read(**{variable: None})


def test_names_that_are_not_ours_are_left_alone() -> None:
    assert read(PATH="/bin", KONG_SOMETHING="x") == read()


class TestToken:
    def test_is_not_used_where_it_is_said_not_to_be(self) -> None:
        assert not read(KONG_ADMIN_TOKEN="t0ken", KONG_SUPERADMIN="false").kong_needs_token

    def test_that_is_needed_and_missing_is_a_problem(self) -> None:
        [problem] = problems_of(KONG_SUPERADMIN="true")

        assert "KONG_ADMIN_TOKEN_SECRET" in problem


class TestCertificate:
    def test_may_be_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text(PEM)

        assert read(KONG_ROOT_CA=str(tmp_path / "ca.pem")).kong_root_ca == PEM

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            ("/no/such/file.pem", "is neither PEM text nor the path of a readable file"),
            ("MIIB", "is neither PEM text nor the path of a readable file"),
            ("x" * 10_000, "is neither PEM text nor the path of a readable file"),
            ("\x00", "is neither PEM text nor the path of a readable file"),
            ("~nobody-of-this-name/ca.pem", "is neither PEM text nor the path of a readable file"),
            ("/dev/zero", "is the path of a folder or a device, not of a file"),
            ("/", "is the path of a folder or a device, not of a file"),
            (str(REPOSITORY / "README.md"), "holds no PEM certificate"),
            ("-----BEGIN CERTIFICATE-----\nMIIB", "holds no PEM certificate, or a damaged one"),
            (f"-----BEGIN CERTIFICATE-----\nMIIB\n{PEM}", "holds no PEM certificate, or a damaged one"),
            (PEM.replace("MII", "MÎI", 1), "holds no PEM certificate, or a damaged one"),
            ("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----", "contains a private key"),
        ],
    )
    def test_that_is_none_is_a_problem(self, value: str, problem: str) -> None:
        [found] = problems_of(KONG_ROOT_CA=value)

        assert found.startswith(f"KONG_ROOT_CA: {problem}")

    def test_files_are_not_read_without_end(self, tmp_path: Path) -> None:
        # Given a pipe that nobody writes to, and a file that is larger than any list of CAs
        os.mkfifo(tmp_path / "pipe")
        with (tmp_path / "huge").open("wb") as huge:
            huge.truncate(10**12)  # takes no room on the disk

        # Then neither is waited for, nor read
        assert "a folder or a device" in problems_of(KONG_ROOT_CA=str(tmp_path / "pipe"))[0]
        assert "a file of more than 1 MB" in problems_of(KONG_ROOT_CA=str(tmp_path / "huge"))[0]

    def test_binary_file_is_a_problem(self, tmp_path: Path) -> None:
        (tmp_path / "ca.der").write_bytes(b"\x30\x82\xff")

        assert "holds no PEM certificate" in problems_of(KONG_ROOT_CA=str(tmp_path / "ca.der"))[0]

    def test_text_with_thousands_of_beginnings_is_refused_at_once(self) -> None:
        assert len(problems_of(KONG_ROOT_CA="-----BEGIN CERTIFICATE-----" * 30_000)) == 1

    def test_all_certificates_are_taken_and_nothing_else(self) -> None:
        other = trustme.CA().cert_pem.bytes().decode("ascii").strip()

        text = f"Issuer: hunter2\r\n{PEM}\r\n# a comment\r\n{other}\r\n".replace("\r\n", "\n").replace("\n", "\r\n")

        assert read(KONG_ROOT_CA=text).kong_root_ca == f"{PEM}\n{other}"


@pytest.mark.parametrize(
    ("variable", "value", "advice"),
    [
        ("DESTINATION", "s3", "names one that there is not; write archive or cloudtrail-lake or cloudwatch-logs, or"),
        ("DESTINATION", ",", "names none; write archive or cloudtrail-lake"),
        ("ARCHIVE_FORMAT", "csv", "must be json or ocsf"),
        ("ARCHIVE_ACCOUNT_ID", "123", "must be the 12 digits of an AWS account"),
        ("ARCHIVE_SIGNING_KEY", "alias/audit", "must be the ARN of a KMS key"),
        ("ARCHIVE", "s3://", "must be s3://bucket/prefix or a folder"),
        ("CHANNEL_ARN", "01234567-89ab-cdef-0123-456789abcdef", "is not the ARN of a CloudTrail channel"),
        ("CHANNEL_ARN", ARN.replace("channel/", "trail/"), "is not the ARN of a CloudTrail channel"),
        ("CHANNEL_ARN", ARN.replace(ACCOUNT_ID, "123"), "is not the ARN of a CloudTrail channel"),
        ("CHANNEL_ARN", ARN + "\nx", "is not the ARN of a CloudTrail channel"),
        ("KONG_ADMIN_API", "kong.example.com:8444", "does not begin with http:// or https://"),
        ("KONG_ADMIN_API", "//kong.example.com", "does not begin with http:// or https://"),
        ("KONG_ADMIN_API", "ftp://kong.example.com", "does not begin with http:// or https://"),
        ("KONG_ADMIN_API", "https://", "has no valid host and port"),
        ("KONG_ADMIN_API", "https://kong:port", "has no valid host and port"),
        ("KONG_ADMIN_API", "https://kong:99999", "has no valid host and port"),
        ("KONG_ADMIN_API", "https://[::1", "has no valid host and port"),
        ("KONG_ADMIN_API", "https://alex:hunter2@kong:8444", "take them out of the URL"),
        ("KONG_ADMIN_API", "https://kong:8444/?token=hunter2", "has a query"),
        ("KONG_ADMIN_API", "https://kong:8444/#hunter2", "fragment"),
        ("KONG_ADMIN_API", "https://kong admin:8444", "contains white space"),
        ("KONG_ADMIN_API", "https://kong:8444/a\u00a0b", "contains white space"),
        ("KONG_ADMIN_API", "https://kong\x07:8444", "contains a control character"),
        ("KONG_ADMIN_API", "https://kong\n:8444", "contains white space"),
        ("KONG_ADMIN_API", "https://kong\u200b:8444", "contains a character beyond ASCII"),
        ("KONG_ADMIN_API", "https://{host}:8444", "contains a character that URLs have only percent-encoded"),
        ("KONG_ADMIN_API", "https://kong:0", "has no valid host and port"),
        ("KONG_ADMIN_API", "https://kong..internal:8444", "has no valid host and port"),
        ("KONG_ADMIN_API", "https://kong:8444?", "has a query"),
        ("KONG_ADMIN_API", "https://kong/" + "x" * 2000, "is longer than 2000 characters"),
        ("KONG_ADMIN_TOKEN", "hunter2\nhunter2", "no HTTP header can hold"),
        ("KONG_ADMIN_TOKEN_SECRET", "hunter2 hunter2", "must be the ARN or the name of a Secrets Manager secret"),
        ("KONG_ADMIN_TOKEN_SECRET", "arn:aws:s3:::bucket", "is not the ARN of a secret"),
        ("KONG_SUPERADMIN", "maybe", "must be true or false"),
        ("REDIS_TLS", "ja", "must be true or false"),
        ("MAP_STATUS_TO_ERROR_CODE", "2", "must be true or false"),
        ("REDIS_HOST", "localhost", "must be host:port"),
        ("REDIS_HOST", ":6379", "must be host:port"),
        ("REDIS_HOST", "localhost:", "must be host:port"),
        ("REDIS_HOST", "localhost:redis", "must be host:port"),
        ("REDIS_HOST", "redis://localhost:6379", "must be host:port"),
        ("REDIS_HOST", "user:hunter2@localhost:6379", "must be host:port"),
        ("REDIS_HOST", "localhost:6379/0", "must be host:port"),
        ("REDIS_DB", "one", "must be a whole number from 0"),
        ("REDIS_DB", "-1", "must be a whole number from 0"),
        ("REDIS_DB", "1.5", "must be a whole number from 0"),
        ("REDIS_DB", "٣", "must be a whole number from 0"),
        ("PAGE_SIZE", "0", "from 1 to 1000"),
        ("PAGE_SIZE", "1001", "from 1 to 1000"),
        ("PAGE_SIZE", "9" * 20, "from 1 to 1000"),
        ("PARALLEL_DELIVERIES", "0", "from 1 to 64"),
        ("OVERLAP_SECONDS", "15m", "without a unit"),
        ("INITIAL_LOOKBACK_SECONDS", "0", "must be a whole number from 1"),
        ("SWEEP_SECONDS", "1", "from 3600 to 2592000, or 0 for no sweeps"),
        ("SWEEP_SECONDS", "3599", "from 3600 to 2592000"),
        ("SWEEP_SECONDS", "2592001", "from 3600 to 2592000"),
        ("SWEEP_SECONDS", "-0", "from 3600 to 2592000"),
        ("SWEEP_SECONDS", "1d", "without a unit"),
        ("EXTERNAL_ID", "x", "2 to 1224"),
        ("EXTERNAL_ID", "with space", "2 to 1224"),
        ("SOURCE_NAME", "a/b", "at most 64"),
        ("SOURCE_NAME", "{a}", "at most 64"),
        ("SOURCE_NAME", "x" * 65, "at most 64"),
        ("SOURCE_NAME", ".hidden", "at most 64"),
        ("EXTERNAL_ID", "üñïçödé-42", "2 to 1224 ASCII letters"),
        ("LOG_LEVEL", "LOUD", "must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("LOG_LEVEL", "10", "must be one of DEBUG"),
        ("CHANNEL_ARN", ARN.replace("us-east-1", "il-central-1"), "has no cloudtrail-data endpoint"),
        ("LEDGER", "s3:/bucket/x", "must be s3://bucket/prefix or a folder"),
        ("LEDGER", "s3://", "must be s3://bucket/prefix or a folder"),
        ("LEDGER", "s3://UPPER/x", "must be s3://bucket/prefix or a folder"),
        ("LEDGER", "https://bucket/x", "must be s3://bucket/prefix or a folder"),
    ],
)
def test_mistake_is_named_with_what_to_write_instead(variable: str, value: str | None, advice: str) -> None:
    [problem] = problems_of(**{variable: value})

    assert problem.startswith(f"{variable}: ")
    assert advice in problem
    assert "hunter2" not in problem


def test_all_mistakes_are_named_at_once() -> None:
    wrong = {
        "CHANNEL_ARN": "x",
        "KONG_ADMIN_API": "x",
        "KONG_SUPERADMIN": "x",
        "KONG_ROOT_CA": "x",
        "REDIS_HOST": "x",
        "REDIS_DB": "x",
        "REDIS_TLS": "x",
        "EXTERNAL_ID": "x",
        "SOURCE_NAME": "/",
        "LEDGER": "x://",
        "OVERLAP_SECONDS": "x",
        "INITIAL_LOOKBACK_SECONDS": "x",
        "SWEEP_SECONDS": "x",
        "PAGE_SIZE": "x",
        "PARALLEL_DELIVERIES": "x",
        "MAP_STATUS_TO_ERROR_CODE": "x",
        "LOG_LEVEL": "x",
    }

    with pytest.raises(SettingsError) as error:
        read(**wrong)

    assert {problem.partition(":")[0] for problem in error.value.problems} == wrong.keys()
    for problem in error.value.problems:
        assert f"  - {problem}" in str(error.value)


class TestSecrets:
    SECRETS = {"KONG_ADMIN_TOKEN": "hunter2-token", "REDIS_PASSWORD": "hunter2-password"}  # noqa: RUF012 - never changed

    def test_are_not_in_any_representation(self) -> None:
        settings = read(**self.SECRETS)

        shown = f"{settings} {settings!r} {settings.kong_admin_token} {settings.redis_password!r} {[settings]}"

        assert "hunter2" not in shown
        assert settings.kong_admin_token is not None
        assert settings.kong_admin_token.value == "hunter2-token"

    def test_are_not_in_any_message(self) -> None:
        mistakes = {"CHANNEL_ARN": None, "KONG_ADMIN_API": "x", "REDIS_HOST": "x", "REDIS_DB": "x"}

        assert "hunter2" not in " ".join(problems_of(**self.SECRETS, **mistakes))
