"""The load client: a process of its own that sends check-ins over REST and sockets and counts what comes back.

Read `orders` (what it is told), `arrivals` (when check-ins are due), `pacer` (who sends next), `rest` and `sockets`
(the connections), `tally` (what came back), `__main__` (the run).
"""
