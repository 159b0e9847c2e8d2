"""`python -m a2v_experiments` is the `a2v` command, also where only the code is there and nothing is installed."""

from .cli import main

main()
