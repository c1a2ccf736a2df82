"""Convert weights: python convert_weights.py SOURCE DESTINATION; the same as `multifocal convert`."""

from multifocal_jax.cli.main import main

if __name__ == "__main__":
    main("convert")
