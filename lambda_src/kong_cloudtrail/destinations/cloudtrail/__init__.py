"""CloudTrail Lake: its events, limits, calls and error codes."""

NAME = "cloudtrail-lake"
"""What trails into it bear in their keys."""
