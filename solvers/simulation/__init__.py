"""Simulation: the algorithm itself at finite N, run by run, and its comparison with theory."""
