"""What comes back: receipts of carriers, matched with what was sent, and answers of people.

Each becomes an event, and what a client is owed. Nothing here is answered before it is on disk. Read receipts.py and
answers.py first.
"""
