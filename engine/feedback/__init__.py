"""What comes back: receipts of carriers, and answers of people. Read answers.py and receipts.py first.

Nothing here is answered before it is on disk.
"""
