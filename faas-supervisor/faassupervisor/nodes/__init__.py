"""What makes the nodes of a multi-node parallel job a gang. No other job imports any of it."""
