"""Differences between two declarations or two data sets, and the checks that they loosen."""
