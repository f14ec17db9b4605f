"""What people read: the summary of a run, the state of a manifest, statistics of its columns."""
