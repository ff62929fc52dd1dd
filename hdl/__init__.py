"""Amaranth descriptions of the generated hardware; this package itself loads nothing."""
