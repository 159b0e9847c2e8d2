"""Ray: starting it, its nodes, jobs that are submitted to it."""
