"""The stored movies, for analysts."""
