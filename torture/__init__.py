"""Torture of the collector: killed, starved of answers, lied to, round after round, and audited from outside.

``python -m torture`` runs it; see `torture.play`. Nothing imports this package, and it imports nothing of the
collector but its rule for telling entries apart.
"""
