"""Compiled programs as XLA prints them, and the seconds that can be read from their instructions.

To add a way to read seconds: a file here with a function from a `Module` and the device's `Rates` to seconds, named by the
`Platform` that it is for.
"""
