"""`python -m multifocal_jax.release pack|card …`."""

from multifocal_jax.cli.flags import exit_on_user_error
from multifocal_jax.cli.release import main

if __name__ == "__main__":
    exit_on_user_error(main)
