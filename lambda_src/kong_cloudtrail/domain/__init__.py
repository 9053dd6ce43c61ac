"""What an entry, an event, a batch and a window are. Pure: standard library only, no input or output."""
