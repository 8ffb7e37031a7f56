"""Metric definitions, confidence intervals, and evaluation of MD stability."""
