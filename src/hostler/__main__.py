"""`python -m hostler`: the same as the `hostler` command."""

import sys

from hostler.cli import main

if __name__ == "__main__":
    sys.exit(main())
