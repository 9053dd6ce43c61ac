"""Kong Gateway's audit trail, kept in AWS CloudTrail Lake: the collector.

``handler`` and ``__main__`` put the parts together, ``collector`` is the one run that both do.
"""

__version__ = "0.1.0"
