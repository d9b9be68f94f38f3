"""Shared by tests: fleets, the comparison of store and catalogue, browsers, faulty servers."""
