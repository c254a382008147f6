"""Batches of cards: issuing and changing many, behind the request that asked for it."""
