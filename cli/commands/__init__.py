"""One module per command. Modules that take long to import are imported where they are used."""
