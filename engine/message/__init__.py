"""Values and pure functions about one message: address, envelope, outcome, headers, DKIM."""
