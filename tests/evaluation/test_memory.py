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
