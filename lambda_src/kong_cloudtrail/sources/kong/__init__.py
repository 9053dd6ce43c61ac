"""Kong Gateway's Admin API: what it answers, how it pages and filters, and where it cannot be trusted."""

REQUESTS = "requests"
"""The stream of ``/audit/requests``, as trails bear it in their keys."""
