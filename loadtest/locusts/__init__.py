"""The users of `loadtest/locustfile.py`, one file a kind: what they do, how often, and which refusals are answers."""
