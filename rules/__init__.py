"""The rule engine: model and evaluation. Pure, and imports nothing of ours."""
