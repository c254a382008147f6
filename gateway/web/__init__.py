"""Pages of the gateway: plain HTML, CSS and JavaScript files next to this one, without a build step or outside downloads."""
