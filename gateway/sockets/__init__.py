"""The sockets: `scan` for scanners at doors, `live` for boards and phones. The wire format is `contract.md`, section
Sockets."""
