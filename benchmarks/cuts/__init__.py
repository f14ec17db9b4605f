"""A labelled benchmark of shot boundaries; `run.py` is the command."""
