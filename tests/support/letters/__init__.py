"""A reusable app of tests: found by being installed."""
