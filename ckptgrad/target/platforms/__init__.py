"""One file per platform, each with a `PLATFORM`."""
