"""What both sides of the operator's door know, without importing the engine behind it."""

#: The Unix socket in data_dir.
SOCKET_NAME = "admin.sock"
