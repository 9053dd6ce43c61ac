"""The CDK app: context values in, one stack out."""

import os
import sys

from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks

from stacks import BundlingError, DeploymentOptions, IntegrationStack, SettingsError

STACK_ID = "KongCloudTrailIntegration"


def main() -> int:
    """Synthesise the stack; return the exit code, with the reason of a failure on standard error."""
    app = App(auto_synth=False)
    try:
        options = DeploymentOptions.from_context(
            app.node.get_all_context(),
            environment_region=os.environ.get("CDK_DEFAULT_REGION") or os.environ.get("AWS_REGION"),
        )
        for note in options.notes:
            print(note, file=sys.stderr)  # noqa: T201 - the CLI does not show a construct's informational annotations
        IntegrationStack(app, STACK_ID, options=options, account=os.environ.get("CDK_DEFAULT_ACCOUNT"))
    except (SettingsError, BundlingError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
