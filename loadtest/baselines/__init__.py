"""What MasterVIP is compared with: three usual designs of the same check-in, and a listener with nothing behind it.

Each design keeps what the contract asks of a check-in: bearer tokens, signed credentials, one effect per request id
with the same answer to a retry, re-entry, capacity that is never exceeded, points for the first entry, the same JSON,
and an answer only after the commit or fsync. None has rules, boards, a live line or an audit trail. Each is written
with care, and is what somebody who knows the tool would write: `transaction` (Postgres, one transaction), `statement`
(Postgres, one statement) and `redis_script` (Redis, one script). `tests/integration/test_baselines.py` holds them
against the real thing.
"""
