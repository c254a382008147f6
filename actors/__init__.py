"""The engine's core: commands, facts, virtual actors and the partition that runs them. Pure but for `host`."""
