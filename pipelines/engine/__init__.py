"""Engines run shard tasks and report events. Which one runs changes no byte of the manifest."""
