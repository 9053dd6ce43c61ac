"""The archive as a destination: lines of JSON in S3, each entry exactly once."""

NAME = "archive"
"""The name of the destination, as in the keys of trails."""
