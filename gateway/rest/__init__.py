"""The ordinary routes, one file per noun: each parses, calls one function and renders."""
