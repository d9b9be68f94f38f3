"""Beat entries (placeholder while the narrow path is tried)."""
