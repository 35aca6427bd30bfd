"""Stability: fixed points, their modes, escape from them, and branches along a parameter."""
