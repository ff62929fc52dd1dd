"""Schemes compared under one protocol: the protocol, its runs, what is measured, tables."""
