"""How messages come in: the SMTP listener, admission. S1 holds here: no 250 before the spool says durable."""
