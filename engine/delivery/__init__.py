"""One attempt: connections, signing, what every reply or fault means (trouble.py), status notifications."""
