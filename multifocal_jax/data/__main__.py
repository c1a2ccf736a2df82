"""`python -m multifocal_jax.data check|prepare|bench …`."""

from multifocal_jax.cli.data import main
from multifocal_jax.cli.flags import exit_on_user_error

if __name__ == "__main__":
    exit_on_user_error(main)
