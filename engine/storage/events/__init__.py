"""The event journal: one line for everything that happened to a recipient. A projection of the spool's frames."""
