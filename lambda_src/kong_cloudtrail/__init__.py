"""Kong Gateway's audit trail, kept in AWS CloudTrail Lake: the collector.

``handler`` is the entry point in Lambda, ``assembly`` builds the parts of a run from the settings, and
``run.collector`` is the outline of a run. Read docs/architecture.md first.
"""

__version__ = "0.1.0"
