"""An emulator of CloudTrail Lake's PutAuditEvents."""
