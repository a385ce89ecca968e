"""Services of OSCAR clusters: what a definition's `functions.oscar` asks for, and the cluster that is asked."""
