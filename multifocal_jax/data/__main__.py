"""`python -m multifocal_jax.data check|prepare|bench …`."""

import sys

from multifocal_jax.cli.data import main

if __name__ == "__main__":
    sys.exit(main())
