"""The CDK app: context values in, one stack out."""

import os
import sys
from pathlib import Path

from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks

from stacks import BundlingError, DeploymentSettings, IntegrationStack, SettingsError


def main() -> int:
    """Synthesise the stack; return the exit code, with the reason of a failure on standard error."""
    app = App(auto_synth=False)
    try:
        options = DeploymentSettings.from_context(
            app.node.get_all_context(),
            environment_region=os.environ.get("CDK_DEFAULT_REGION") or os.environ.get("AWS_REGION"),
        )
        for note in options.notes:
            _say(note)  # the CLI does not show a construct's informational annotations
        stack = IntegrationStack(
            app, options.stack_name, options=options, account=os.environ.get("CDK_DEFAULT_ACCOUNT")
        )
    except (SettingsError, BundlingError) as error:
        _say(str(error))
        return 1
    if before := stack.replaced_trail(Path(app.outdir)):
        _say(
            f"Stack {stack.stack_name} was last synthesised for another trail ({before}). Deploying it replaces that "
            f"trail by {stack.trail}. For another gateway beside it, give a resource_name of its own: it gets its own "
            "stack."
        )
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
