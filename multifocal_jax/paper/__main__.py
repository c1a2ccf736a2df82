"""`python -m multifocal_jax.paper`."""

from multifocal_jax.cli.paper import main

main()
