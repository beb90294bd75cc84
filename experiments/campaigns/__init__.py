"""Campaigns: many random cases that look for what the tests do not think of."""
