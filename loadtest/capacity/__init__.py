"""How many machines it takes: from what a check-in was measured to cost to hosts, gateways, Redis shards, Postgres
workers and their price."""
