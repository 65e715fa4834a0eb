"""Where events go: text, JSON, files."""
