"""Deciding which clips to keep, from the ledger's columns and rules. Opens no video."""
