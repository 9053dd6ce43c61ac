"""The process around a run: secrets, redaction, logs and metrics, the garbage collector."""
