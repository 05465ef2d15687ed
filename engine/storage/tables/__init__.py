"""SQLite tables: credentials, holds, throttle state, suppressions. Rare writes, never on a message's hot path."""
