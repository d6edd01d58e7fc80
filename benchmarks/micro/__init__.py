"""Servers and pieces measured alone, as units for the scenarios."""
