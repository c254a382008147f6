"""A scanner that goes on without a network: the reference for whoever writes one.

Read it in this order: `known` (what it keeps), `judge` (how it decides alone), `scans` (what it has decided, on disk),
`kept` (what it keeps, on disk), `refresh` (how it stays up to date), `upload` (what the system gets to know), `scanner`
(all of it together).
"""
