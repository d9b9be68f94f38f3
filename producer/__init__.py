"""Decides what to fetch and when, shows how far it is, hands the data back."""
