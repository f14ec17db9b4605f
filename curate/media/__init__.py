"""The only room that opens media."""
