"""A labelled benchmark of the flags for synthetic clips; `run.py` is the command."""
