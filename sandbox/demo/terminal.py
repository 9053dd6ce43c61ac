"""Commands for a terminal while the demo is kept running. They are complete, and contain no secret."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from sandbox.machinery.processes import PROJECT_DIRECTORY

# One line each: where AWS is, where Kong is, where the cache is, and the rest of the collector's settings.
_GROUPS = (("AWS_",), ("KONG_",), ("REDIS_", "SSL_"), ("",))
_NOT_FOR_A_TERMINAL = ("LOG_LEVEL", "CDK_")


def exports(
    *, function_environment: Mapping[str, str], aws_environment: Mapping[str, str], kong_root_ca: Path
) -> list[str]:
    """Return the lines that point `aws` and `python -m kong_cloudtrail` to the demo.

    Parameters
    ----------
    function_environment
        The deployed function's settings. They name the secret that holds Kong's token, not the token.
    aws_environment
        Variables that point to the local AWS.
    kong_root_ca
        A file with the certificate, which is a text of many lines in the function's settings.
    """
    variables = {
        **function_environment,
        **aws_environment,
        "KONG_ROOT_CA": str(kong_root_ca),
        "PYTHONPATH": str(PROJECT_DIRECTORY / "lambda_src"),
    }
    left = {name: value for name, value in variables.items() if not name.startswith(_NOT_FOR_A_TERMINAL)}
    lines = []
    for prefixes in _GROUPS:
        names = [name for name in left if name.startswith(prefixes)]
        lines.append("export " + " ".join(f"{name}={shlex.quote(left.pop(name))}" for name in names))
    return lines


def commands(
    *, function_name: str, log_group_name: str, token_header: Path, events_url: str | None, has_archive: bool
) -> list[str]:
    """Return the example commands, which need the variables of `exports`.

    Parameters
    ----------
    function_name, log_group_name
        Names of the deployed function and its log group.
    token_header
        A file with the header that has Kong's token: on a command line, others on this machine could see it.
    events_url
        URL that returns CloudTrail's events for a `POST`; None without CloudTrail.
    has_archive
        Whether there is an archive to ask.
    """
    kong = f'curl -s --cacert "$KONG_ROOT_CA" -H @{token_header}'
    report = token_header.with_name("report.json")
    collector = f"{sys.executable} -m kong_cloudtrail"
    return [
        "# make an Admin API call, and read the audit log",
        f'{kong} "$KONG_ADMIN_API/services" -d name=mine',
        f'{kong} "$KONG_ADMIN_API/audit/requests?size=3"',
        "# run the function, and read its log",
        f"aws lambda invoke --function-name {function_name} {report} && cat {report}",
        f"aws logs filter-log-events --output text --log-group-name {log_group_name}",
        "# the collector as a program, with the function's settings",
        f"{collector} sync",
        f"{collector} release",
        f"{collector} verify",
        *(["# ask the archive in SQL", f"{collector} query who-did-what"] if has_archive else []),
        *(["# show the events that CloudTrail accepted", f"curl -s -X POST {events_url}"] if events_url else []),
    ]
