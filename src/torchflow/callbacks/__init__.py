"""Reactions to what the loop reports, one file each."""
