"""Composition: settings, Ray wiring, the processes and the command line."""
