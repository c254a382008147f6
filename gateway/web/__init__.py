"""Pages of the gateway: HTML, CSS and JavaScript files next to this one; no build step, no outside downloads."""
