"""How many files a process may have open."""

import resource


def allow_many_files() -> None:
    """As many as the system lets it: the soft limit is for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
