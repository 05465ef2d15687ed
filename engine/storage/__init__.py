"""What survives a crash: the spool, the event journal, the tables."""
