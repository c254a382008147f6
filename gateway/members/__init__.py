"""Members beyond what a route does: profiles, consents, attributes, search, reputation, names on cards, imports."""
