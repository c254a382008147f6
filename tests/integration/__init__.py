"""Parts with real stores, and whole systems. (A package: `seeded_system` lasts as long as it.)"""
