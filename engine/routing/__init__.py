"""Where a destination's mail goes: static routes, MX hosts, sites, providers, TLS policy, sources."""
