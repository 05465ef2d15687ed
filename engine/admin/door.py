"""What both sides of the operator's door know, without importing the engine behind it."""

#: The Unix socket in data_dir.
SOCKET_NAME = "admin.sock"


def worker_socket_name(number: int) -> str:
    """Where one of several workers answers its supervisor; operators ask at the other."""
    return f"admin.{number}.sock"
