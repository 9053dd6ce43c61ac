"""CloudTrail Lake: its events, limits, calls and error codes."""
