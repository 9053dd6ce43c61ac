"""CloudTrail Lake as a destination: events, limits, calls and error codes."""

NAME = "cloudtrail-lake"
"""The name of the destination, as in the keys of trails."""
