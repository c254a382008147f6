"""What the edge knows of organisations in Postgres: profile and state, people and invitations, API keys, the log."""
