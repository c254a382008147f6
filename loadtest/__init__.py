"""Load generators, benchmarks, and the clients that tests drive the system with."""
