"""Journal, projector, Postgres and the embedded stores."""
