"""What goes out of the process: calls to agents, behind a port."""
