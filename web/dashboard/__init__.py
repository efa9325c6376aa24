"""The operator's page: HTML from templates, kept live by server-sent events; nothing in it asks anybody else."""
