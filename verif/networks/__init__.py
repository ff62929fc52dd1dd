"""Whole networks in simulated hardware: which ones, whose weights, what is measured, and the tables."""
