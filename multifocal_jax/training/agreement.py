"""Several processes that train together do the same thing, on the same data, in the same workdir."""

import hashlib
from pathlib import Path
from typing import Any

import jax
from etils import epath

import multifocal_jax
from multifocal_jax import processes
from multifocal_jax.config import ExperimentConfig
from multifocal_jax.config_files import changed_fields, from_dict, to_dict
from multifocal_jax.data.pipeline import TrainingData
from multifocal_jax.errors import UserError
from multifocal_jax.training.checkpoints import newest_step
from multifocal_jax.training.lease import read_lease

LOCAL = ("data.root", "data.workers")  # fields that hosts may differ in


class AgreementError(UserError):
    """The processes do not do the same thing. The message names what differs."""


def check_agreement(config: ExperimentConfig, data: TrainingData, workdir: epath.Path) -> None:
    """Compare what the processes are about to do, before any of them waits for another in vain.

    Raises:
        AgreementError: config, code or data differ, or they do not see the same workdir; in all processes alike.
    """
    if processes.count() == 1:
        return
    lease = read_lease(workdir)
    mine = {
        "config": to_dict(config),
        "code": {
            f"multifocal_jax {multifocal_jax.__version__}": _digest_of_code(),
            "JAX": jax.__version__,
        },
        "data": data.fingerprints,
        "mode": data.mode,
        "lease": lease and lease["id"],
        "step": newest_step(workdir),
    }
    first, *others = processes.gather(mine)
    for number, other in enumerate(others, start=1):
        differences = _differences(first, other)
        if differences:
            raise AgreementError(
                f"process {number} differs from process 0: {'; '.join(differences)}. Start all of them with the same "
                "command, code and data"
            )
        if other["lease"] != first["lease"] or other["step"] != first["step"]:
            newest = [f"step {facts['step']}" if facts["step"] is not None else "none" for facts in (first, other)]
            raise AgreementError(
                f"process {number} does not see the {workdir} of process 0 (newest checkpoint {newest[1]}, of "
                f"process 0 {newest[0]}); the workdir must lie on a file system that all of them share"
            )


def _differences(first: dict[str, Any], other: dict[str, Any]) -> list[str]:
    old, new = (from_dict(ExperimentConfig, facts["config"]) for facts in (first, other))
    found = [str(change) for change in changed_fields(old, new) if change.name not in LOCAL]
    if first["code"] != other["code"]:
        found.append(f"the code: {first['code']} -> {other['code']}")
    if first["data"] != other["data"]:
        found.append(f"the pictures: {first['data']} -> {other['data']}")
    elif first["mode"] != other["mode"]:
        found.append(f"data.mode=auto, which is {first['mode']!r} -> {other['mode']!r} with their memory; set it")
    return found


def _digest_of_code() -> str:
    digest = hashlib.sha256()
    package = Path(multifocal_jax.__file__).parent
    for source in sorted(package.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]
