"""`python -m multifocal_jax.cost`."""

from multifocal_jax.cli.cost import main

main()
