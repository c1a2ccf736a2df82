"""Score weights: python evaluate.py --workdir DIR; the same as `multifocal evaluate`."""

from multifocal_jax.cli.main import main

if __name__ == "__main__":
    main("evaluate")
