"""Where entries come from: one folder for each kind of gateway."""
