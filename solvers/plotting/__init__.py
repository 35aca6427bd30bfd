"""Pictures: each function takes a result and an Axes and returns the Axes."""
