"""Contracts: run all checks of one, suggest a profile or bounds for data, and report with Great Expectations."""
