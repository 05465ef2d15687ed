"""The operator's door: a Unix socket in data_dir that answers what the command line asks."""
