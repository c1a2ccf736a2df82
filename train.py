"""Train a network: python train.py --config configs/rain200h.py; the same as `multifocal train`."""

from multifocal_jax.cli.main import main

if __name__ == "__main__":
    main("train")
