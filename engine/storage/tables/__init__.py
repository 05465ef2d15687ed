"""Small SQLite tables: credentials, holds, throttle state. Rare writes, never on a message's hot path."""
