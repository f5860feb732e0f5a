"""Doors for libraries whose models are objects: each imports its library when it is used."""
