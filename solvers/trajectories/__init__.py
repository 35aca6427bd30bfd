"""Trajectories: the flow integrated from its start, with plateaus and what was observed."""
