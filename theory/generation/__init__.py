"""Generation: from definitions to numpy source and to compiled loops."""
