"""Fetches one page under the fleet's shared limit and stores it."""
