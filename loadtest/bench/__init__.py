"""The benchmark: how many check-ins a second through the public API, how fast, and what each costs in every process.

Rules:
1. The load comes from a process of its own (`loadtest.client`) over TCP, as from outside; its CPU time is billed, too.
2. Every scan is a fresh request with a valid credential, nearly all are admitted, each is fsynced before its answer.
3. What it is compared with is measured in the same run: three usual designs (`baselines`), and for each stage what it
   could do with nothing else to do (`limits`).
4. Without --data it starts a system of its own in a temporary directory, and removes it.

Read `options` (profiles), `system` (what is measured), `fixtures` (what there is to scan), `load` (the client and the
bills), `engine` (the system's figures), `baselines`, `limits`, then `text`, `page` and `charts` (the report).
"""
