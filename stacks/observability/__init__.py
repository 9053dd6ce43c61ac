"""Metrics, alarms and dashboard."""
