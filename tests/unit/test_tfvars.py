"""The proof of concept's variables file becomes context, and none of its secrets becomes text on a screen."""

import contextlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from kong_cloudtrail.errors import SettingsError

from cli import tfvars, variables_file
from cli.exit_status import ExitStatus
from cli.files import LONGEST_FILE_BYTES
from cli.main import main
from stacks import DeploymentSettings

PLANTED = "planted-Secret-4711"
CHANNEL = "arn:aws:cloudtrail:us-east-1:111122223333:channel/01234567-89ab-cdef-0123-456789abcdef"

# The example of the proof of concept's readme, with its missing pieces, and every way of writing that HCL has.
COMPLETE = f"""
# settings of the gateway in us-east-1
aws_region          = "us-east-1"
existing_vpc        = "vpc-0123456789abcdef0" // Kong's
existing_subnet_ids = [
  "subnet-0123456789abcdef0", /* private,
                                 first zone */
  "subnet-0123456789abcdef1",
]
security_group      = "kong-ct-sg"
lambda_env = {{
  KONG_ADMIN_API   = "https://kong-admin.example.com:8444"
  KONG_SUPERADMIN  = true
  KONG_ADMIN_TOKEN = "{PLANTED}"
  KONG_ROOT_CA     = null
  "REDIS_DB"       : 2,
  REDIS_HOST       = "redis.example.com:6379"
  CHANNEL_ARN      = "{CHANNEL}"
}}
channel_arn = "{CHANNEL}"

image         = "kong/cloudtrail-integration:1.0.0"
resource_name = "kong-ct-integration"
resource_tags = {{ project = "kong", "cost center" = "42 \\"a\\"", owner = null }}
"""

CONTEXT = {
    "aws_region": "us-east-1",
    "existing_vpc": "vpc-0123456789abcdef0",
    "existing_subnet_ids": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
    "channel_arn": CHANNEL,
    "kong_admin_api": "https://kong-admin.example.com:8444",
    "kong_superadmin": True,
    "kong_admin_token_secret": "kong-admin-token",
    "redis_db": "2",
    "resource_name": "kong-ct-integration",
    "security_group": "kong-ct-sg",
    "resource_tags": {"project": "kong", "cost center": '42 "a"'},
}


def translate(tmp_path: Path, text: str) -> tfvars.Translation:
    file = tmp_path / "my.tfvars"
    file.write_text(text, "utf-8")
    return tfvars.read(file)


def remark_on(translation: tfvars.Translation, name: str) -> str:
    (remark,) = (remark for remark in translation.remarks if remark.startswith((f"{name}:", f"{name} (")))
    return remark


def arguments_of(translation: tfvars.Translation) -> dict[str, str]:
    """Read the printed arguments as a shell and the CDK CLI would."""
    words = shlex.split(translation.as_arguments().replace("\\\n", ""))
    assert words[:2] == ["cdk", "deploy"]
    assert set(words[2::2]) == {"-c"}
    return dict(word.split("=", 1) for word in words[3::2])


def parse(folder: Path, text: str) -> dict[str, variables_file.Assignment]:
    file = folder / "any.tfvars"
    file.write_text(text, "utf-8", newline="")
    return variables_file.read(file)


def value_of(folder: Path, text: str) -> Any:
    return parse(folder, f"a = {text}\n")["a"].value


def test_complete_file(tmp_path: Path) -> None:
    translation = translate(tmp_path, COMPLETE)
    assert json.loads(translation.as_json()) == {"context": CONTEXT}
    assert "Secrets Manager" not in translation.as_json()
    assert "aws secretsmanager create-secret --region us-east-1 --name kong-admin-token" in remark_on(
        translation, "lambda_env KONG_ADMIN_TOKEN"
    )
    assert "line 17" in remark_on(translation, "lambda_env REDIS_HOST")
    assert "line 22" in remark_on(translation, "image")
    assert "has this name until it is removed" in remark_on(translation, "resource_name")
    assert len(translation.remarks) == 4


def test_the_app_accepts_what_is_printed(tmp_path: Path) -> None:
    pem = trustme.CA().cert_pem.bytes().decode()
    heredoc = "<<-EOT\n" + "".join(f"    {line}\n" for line in pem.splitlines()) + "  EOT"
    translation = translate(tmp_path, COMPLETE.replace("KONG_ROOT_CA     = null", f"KONG_ROOT_CA = {heredoc}"))
    expected = {**CONTEXT, "kong_root_ca": pem}
    assert translation.context == expected
    for context in (json.loads(translation.as_json())["context"], arguments_of(translation)):
        options = DeploymentSettings.from_context(context)
        assert options.vpc_id == CONTEXT["existing_vpc"]
        assert list(options.subnet_ids) == CONTEXT["existing_subnet_ids"]
        assert options.tags == CONTEXT["resource_tags"]
        assert options.region == "us-east-1"
        assert options.notes == ()


def test_the_command_needs_no_other_setting(
    tmp_path: Path, bare_environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my.tfvars"
    file.write_text(COMPLETE, "utf-8")
    assert main(["tfvars", str(file)]) == ExitStatus.DONE
    printed = capsys.readouterr()
    assert '"existing_vpc": "vpc-0123456789abcdef0"' in printed.out
    assert "\n  -c existing_vpc=vpc-0123456789abcdef0 \\\n" in printed.out
    assert "aws secretsmanager create-secret" in printed.err
    assert PLANTED not in printed.out + printed.err


def test_the_same_as_json(tmp_path: Path) -> None:
    variables = {
        "aws_region": "us-east-1",
        "existing_vpc": CONTEXT["existing_vpc"],
        "existing_subnet_ids": CONTEXT["existing_subnet_ids"],
        "security_group": "kong-ct-sg",
        "lambda_env": {
            "KONG_ADMIN_API": "https://kong-admin.example.com:8444",
            "KONG_SUPERADMIN": True,
            "KONG_ADMIN_TOKEN": PLANTED,
            "KONG_ROOT_CA": None,
            "REDIS_DB": 2,
            "REDIS_HOST": "redis.example.com:6379",
        },
        "channel_arn": CHANNEL,
        "image": "kong/cloudtrail-integration:${literally}",
        "resource_name": "kong-ct-integration",
        "resource_tags": CONTEXT["resource_tags"],
    }
    file = tmp_path / "my.tfvars.json"
    file.write_text(json.dumps(variables), "utf-8")

    translation = tfvars.read(file)

    assert translation.context == CONTEXT
    assert "lambda_env REDIS_HOST: is not needed" in "".join(translation.remarks)
    assert PLANTED not in "".join(translation.remarks)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", ", line 1: is not JSON"),
        (f'{{\n"{PLANTED}": }}', ", line 2: is not JSON"),
        ("[]", ", line 1: expected a map"),
        (f'{{"a": 1, "{PLANTED}": 1, "{PLANTED}": 2}}', ": a name is set a second time"),
        ('{"a": NaN}', ": NaN and Infinity are not JSON"),
        ('{"a": 1e999}', ": a number is too large"),
        ('{"a": ' + "9" * 5000 + "}", ": the number is too long"),
        ("[" * 100_000, ": lists and maps are nested too deeply"),
        ('{"existing_vpc": [1]}', ": existing_vpc must be text"),
    ],
)
def test_bad_json(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, problem: str) -> None:
    file = tmp_path / "bad.tfvars.json"
    file.write_text(text, "utf-8")
    assert main(["tfvars", str(file)]) == ExitStatus.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{file}{problem}" in captured.err
    assert PLANTED not in captured.err


def test_an_almost_empty_file_is_told_what_is_missing(tmp_path: Path) -> None:
    translation = translate(tmp_path, "# nothing yet\n")
    assert translation.context == {}
    for name in ("existing_vpc", "existing_subnet_ids", "channel_arn", "kong_admin_api"):
        assert "is not in the file; add the" in remark_on(translation, name)


def test_what_is_unknown_is_named_and_not_repeated(tmp_path: Path) -> None:
    translation = translate(
        tmp_path,
        f'kong_token = "{PLANTED}"\ncloudtrail_retention = 90\nlambda_env = {{\nREDIS_PASSWORD = "{PLANTED}"\n}}\n',
    )
    assert translation.context == {}
    assert remark_on(translation, "kong_token").endswith("is left out: it is not a variable of the proof of concept.")
    assert "Terraform's state" in remark_on(translation, "cloudtrail_retention")
    assert "line 4" in remark_on(translation, "lambda_env REDIS_PASSWORD")
    assert PLANTED not in "".join(translation.remarks)


@pytest.mark.parametrize(
    ("superadmin", "token", "context", "remark"),
    [
        ("true", PLANTED, {"kong_superadmin": True, "kong_admin_token_secret": "kong-admin-token"}, "Store it before"),
        ('"1"', PLANTED, {"kong_superadmin": True, "kong_admin_token_secret": "kong-admin-token"}, "Store it before"),
        ("null", PLANTED, {"kong_admin_token_secret": "kong-admin-token"}, "Store it before"),
        ("false", PLANTED, {"kong_superadmin": False}, "it was not used, as KONG_SUPERADMIN is false"),
        ("true", "", {"kong_superadmin": True}, "FillKongAdminToken"),
    ],
)
def test_the_token_goes_to_secrets_manager(
    tmp_path: Path, superadmin: str, token: str, context: dict[str, Any], remark: str
) -> None:
    lambda_env = f'lambda_env = {{ KONG_SUPERADMIN = {superadmin}, KONG_ADMIN_TOKEN = "{token}" }}'
    translation = translate(tmp_path, lambda_env)
    assert translation.context == context
    assert remark in remark_on(translation, "lambda_env KONG_ADMIN_TOKEN")
    assert PLANTED not in "".join(translation.remarks)


def test_a_value_that_contains_the_token_is_left_out(tmp_path: Path) -> None:
    text = COMPLETE.replace('project = "kong"', f'project = "kong {PLANTED}"').replace("kong-ct-sg", f"sg {PLANTED}")
    translation = translate(tmp_path, text)
    assert "contains the token" in remark_on(translation, "security_group")
    assert "contains the token" in remark_on(translation, "resource_tags")
    printed = translation.as_json() + translation.as_arguments() + "".join(translation.remarks)
    assert PLANTED not in printed


@pytest.mark.parametrize("nothing", ['""', "null", '"null"', '"disabled"', '"None"'])
def test_no_root_ca(tmp_path: Path, nothing: str) -> None:
    assert translate(tmp_path, f"lambda_env = {{ KONG_ROOT_CA = {nothing} }}").context == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f'existing_vpc = "{PLANTED}', "line 1: the file ends in the middle of a value"),
        (f'existing_vpc = "{PLANTED}\naws_region = "us-east-1"', "line 2: the file ends in the middle of a value"),
        ('a = "b"\nc = d"', "line 2: unexpected double quotes; perhaps a text before them"),
        (f'\n\nlambda_env = {{\n  KONG_ADMIN_TOKEN = "{PLANTED}"\n', "line 5: the file ends in the middle of a value"),
        (f"existing_vpc = {PLANTED}", "line 1: a variables file has plain values only (text in double quotes)"),
        ('image = "${var.image}"', "line 1: a variables file has plain values only"),
        ("a = <<EOT\none\n%{ if true }\nEOT\n", "line 3: a variables file has plain values only"),
        ("a = <<EOT\none\n", "line 1: the text that begins here with << is not closed by its word"),
        ("a = <<\none\n", "line 1: the text that begins here with << is not closed"),
        ("a = var.b", "line 1: a variables file has plain values only"),
        ("a = 1 + 2", "line 1: a variables file has plain values only"),
        ("a = [for x in y : x]", "line 1: a variables file has plain values only"),
        ("a =\n1", "line 1: cannot be read from column"),
        ("a = -", "line 1: cannot be read from column"),
        ('a = "one\ntwo"', "line 1: the text that begins here is not closed by double quotes on the same line"),
        ("a = " + "[" * 5000, "line 1: the file ends in the middle of a value"),
        ("a = { (b) = 1 }", "line 1: a variables file has plain values only"),
        ("a = { b.c = 1 }", "line 1: a variables file has plain values only"),
        ("a = !true", "line 1: a variables file has plain values only"),
        ("a = [1\n2]", "line 2: cannot be read from column 1 on"),
        ("a = { b 1 }", "line 1: cannot be read from column 9 on"),
        ("variable {\n}", "line 1: a variables file has no blocks"),
        ('"a" = 1', "line 1: unexpected double quotes"),
        ("a = 1\na = 2", "line 2: a name is set a second time; the first time is in line 1"),
        (f"a = {{\n {PLANTED} = 1\n {PLANTED} = 2\n}}", "line 3: a name is set a second time; the first time is in"),
        ("a = /* 1", "line 1: the comment that begins here is not closed"),
        (r'a = "\q"', "line 1: unknown escape in this text"),
        (r'a = "\ud800"', "line 1: an escape in this text stands for no character"),
        ("a = 1e999", "line 1: the number is too large"),
        ("a = " + "9" * 5000, "line 1: the number is too long"),
        ("a = " + "[" * 50 + "]" * 50, "line 1: lists and maps are nested too deeply"),
        ("existing_vpc = [1]", "line 1: existing_vpc must be text"),
        (f'\nexisting_subnet_ids = "{PLANTED}"', "line 2: existing_subnet_ids must be a list of text"),
        ("existing_subnet_ids = [null]", "line 1: existing_subnet_ids must be a list of text"),
        (f'resource_tags = ["{PLANTED}"]', "line 1: resource_tags must be a map of text"),
        ("resource_tags = { a = [] }", "line 1: resource_tags must be a map of text"),
        (f'lambda_env = "{PLANTED}"', "line 1: lambda_env must be a map"),
        (f'lambda_env = {{\nKONG_SUPERADMIN = "{PLANTED}"\n}}', "line 2: lambda_env KONG_SUPERADMIN must be true or"),
        (f'lambda_env = {{\nKONG_ADMIN_API = "http://a:{PLANTED}@kong:8001"\n}}', "line 2: lambda_env KONG_ADMIN_API"),
        (f'lambda_env = {{\nKONG_ADMIN_API = "http://kong/?t={PLANTED}"\n}}', "line 2: lambda_env KONG_ADMIN_API"),
        (f'lambda_env = {{\nKONG_ADMIN_API = "http://[{PLANTED}"\n}}', "line 2: lambda_env KONG_ADMIN_API"),
        ('lambda_env = { KONG_ROOT_CA = "-----BEGIN PRIVATE KEY-----" }', "contains a private key"),
        (
            f'channel_arn = "{PLANTED}"\nlambda_env = {{\nCHANNEL_ARN = "b"\n}}',
            "line 1: channel_arn differs from CHANN",
        ),
    ],
)
def test_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, problem: str) -> None:
    file = tmp_path / "bad.tfvars"
    file.write_text(text, "utf-8")
    assert main(["tfvars", str(file)]) == ExitStatus.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{file}, line " in captured.err
    assert problem in captured.err
    assert PLANTED not in captured.err


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        translate(tmp_path, "existing_vpc = []\nresource_tags = 1\nlambda_env = 2\n")
    assert len(raised.value.problems) == 3


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"PK\x03\x04\0\0", "is a binary file"),
        (b'a = "b"\nc = "\xe9"\n', "line 2: is not UTF-8"),
        (b"#" * (LONGEST_FILE_BYTES + 1), "is longer than 256 KiB"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "other.tfvars"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=problem):
        tfvars.read(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        tfvars.read(tmp_path / "missing.tfvars")
    with pytest.raises(SettingsError, match="cannot be read"):
        tfvars.read(tmp_path)
    with pytest.raises(SettingsError, match="longer than"):
        tfvars.read(Path("/dev/zero"))


def test_windows_files(tmp_path: Path) -> None:
    file = tmp_path / "windows.tfvars"
    file.write_bytes(b"\xef\xbb\xbf" + COMPLETE.replace("\n", "\r\n").encode())
    assert tfvars.read(file).context == CONTEXT


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('""', ""),
        (r'"a\tb\\n\u00e9\U0001F600"', "a\tb\\né😀"),
        ('"$${a} %%{b} $5 %d {}"', "${a} %{b} $5 %d {}"),
        ('"# no // comment /* here */"', "# no // comment /* here */"),
        ("-1.5e2", -150.0),
        ("007", 7),
        ("[]", []),
        ("[1, [true, null],]", [1, [True, None]]),
        ("<<EOT\n  a\n b$${c}\\n\n  EOT", "  a\n b${c}\\n\n"),
        ("<<-EOT\n    a\n\n      b\n  EOT", "a\n\n  b\n"),
        ("<<EOT\nEOT", ""),
        ("[<<A\none\nA\n, 2]", ["one\n", 2]),
    ],
)
def test_values(tmp_path: Path, text: str, value: Any) -> None:
    assert value_of(tmp_path, text) == value


def test_maps(tmp_path: Path) -> None:
    found = value_of(tmp_path, '{\n  # comment\n  b-c = 1\n  "d e" : 2, f = 3\n}')
    assert {key: (entry.value, entry.line) for key, entry in found.items()} == {
        "b-c": (1, 3),
        "d e": (2, 4),
        "f": (3, 4),
    }
    assert value_of(tmp_path, "{}") == {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all examples of a property."""
    return tmp_path_factory.mktemp("variables")


@given(text=st.text(alphabet='ab=:{}[]"\\$%#/*<>-_,.01 \n\r\té', max_size=60))
def test_any_text_is_read_or_refused(folder: Path, text: str) -> None:
    with contextlib.suppress(SettingsError):
        parse(folder, text)


@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_comes_back_from_quotes(folder: Path, text: str) -> None:
    escaped = text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n").replace("\r", r"\r")
    written = re.sub(r"([$%])(?=\{)", r"\1\1", escaped)
    assert value_of(folder, f'"{written}"') == text
