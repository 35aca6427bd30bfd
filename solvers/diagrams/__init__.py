"""Diagrams: one experiment at many values of its keys, on one machine or on a cluster."""
