from types import SimpleNamespace

import psutil

from multifocal_jax.evaluation import memory
from multifocal_jax.evaluation.memory import left_in_groups


def test_limits_of_control_groups_count_without_the_cache_that_can_be_dropped(tmp_path):
    job, step = tmp_path / "job", tmp_path / "job" / "step"
    step.mkdir(parents=True)
    for folder, limit, used, cache in ((job, "5000", 3000, 1000), (step, "max", 2000, 500)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 7\ninactive_file {cache}\n")
    (tmp_path / "own").write_text("4:memory:/old\n0::/job/step\n")
    assert left_in_groups(tmp_path, tmp_path / "own") == [5000 - (3000 - 1000)]
    (step / "memory.max").write_text("2500\n")
    assert left_in_groups(tmp_path, tmp_path / "own") == [2500 - (2000 - 500), 3000]
    assert left_in_groups(tmp_path, tmp_path / "none") == []


def test_limits_of_control_groups_of_version_1(tmp_path):
    """A container sees its own group at the root, though it is told the host's path."""
    job = tmp_path / "memory" / "job"
    job.mkdir(parents=True)
    for folder, limit, used, cache in ((job.parent, 9000, 7000, 500), (job, 5000, 3000, 1000)):
        (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"inactive_file 1\ntotal_inactive_file {cache}\n")
    (tmp_path / "own").write_text("5:cpu,cpuacct:/job\n4:memory,hugetlb:/job\n0::/\n")
    assert left_in_groups(tmp_path, tmp_path / "own") == [5000 - (3000 - 1000), 9000 - (7000 - 500)]
    (tmp_path / "own").write_text("4:memory:/docker/1234\n")
    assert left_in_groups(tmp_path, tmp_path / "own") == [2500]


def test_memory_of_the_system_where_there_are_no_groups(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=3_000_000_000))
    monkeypatch.setattr(memory, "left_in_groups", list)
    assert memory.available_on_host() == 3_000_000_000
    monkeypatch.setattr(memory, "left_in_groups", lambda: [2_000_000_000, -5])
    assert memory.available_on_host() == 0


def test_memory_that_is_about_to_be_freed_is_waited_for(monkeypatch):
    free = iter([1, 2, 50])
    monkeypatch.setattr(memory, "available", lambda device: next(free))
    monkeypatch.setattr(memory, "_PATIENCE", (5, 0))
    assert memory.lack(None, 40) is None
    monkeypatch.setattr(memory, "available", lambda device: 7)
    assert memory.lack(None, 40) == 7
