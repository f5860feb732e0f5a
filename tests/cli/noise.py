"""The commands that run the user's code, and code that prints from wherever that can be."""

COMMANDS = {
    "plan": ["plan"],
    "timeline": ["timeline", "--observe", "none"],
    "frontier": ["frontier", "--no-reference"],
    "validate": ["validate", "--repeats", "1", "--meters", "none"],
}
NOISE = {
    "at_import": "print('at import'); os.write(1, b'from below')",
    "while_traced": "print('traced'); jax.debug.print('running {}', x[0])",
    "when_called": "print('called')",
}
