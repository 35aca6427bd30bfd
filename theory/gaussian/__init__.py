"""Gaussian averages by rules: what the named averages are made of."""
