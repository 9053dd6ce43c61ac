"""CloudWatch Logs as a destination: events, their times, limits, calls and error codes."""

NAME = "cloudwatch-logs"
"""The name of the destination, as in the keys of trails."""
