"""Measurements: what torchflow costs, beside loops by hand and beside other libraries."""
