"""The deployment of this repository: its context and its stack."""
