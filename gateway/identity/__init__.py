"""Who calls and what they may do: callers, tokens, the policy table."""
