"""Definitions of metrics, their intervals, and what is measured of dynamics."""
