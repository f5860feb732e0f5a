"""`python -m ckptgrad.cli`."""

from ckptgrad.cli.commands import main

main()
