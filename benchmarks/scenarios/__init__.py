"""Measurements with a name: which servers, which load, which figures."""
