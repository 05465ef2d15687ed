"""Events on their way to who wants them: the streams of webhooks, in order, at least once, never in the way of mail.

A stream reads the files of a journal and needs nothing else of the engine (E1). Read stream.py first; what a receiver
gets is in post.py, and README.md.
"""
