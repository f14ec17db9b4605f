"""Whole jobs, each a file one can read aloud: they choose the engine and tie the rooms of `curate` together."""
