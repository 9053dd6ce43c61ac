"""An emulator of CloudWatch Logs: PutLogEvents by its exact rules, and the calls around it."""
