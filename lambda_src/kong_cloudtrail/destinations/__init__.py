"""Where entries are kept: one folder for each destination."""
