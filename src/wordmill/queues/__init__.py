"""Where work waits: a queue hands jobs to workers."""
