"""The edge: HTTP, sockets, credentials, limits and the dispatcher to the hosts."""
