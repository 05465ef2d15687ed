"""The resolver and the streams: the only places below the daemon that touch sockets to others."""
