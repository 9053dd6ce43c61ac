"""The report for an auditor: the document of `evidence` as one HTML file that needs nothing else to be read."""

from .page import render

__all__ = ["render"]
