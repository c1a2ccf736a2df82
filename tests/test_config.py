import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from multifocal_jax.config import (
    ConfigError,
    DataConfig,
    EvalConfig,
    ExperimentConfig,
    ModelConfig,
    SourceConfig,
    TrainConfig,
)
from multifocal_jax.config_files import (
    apply_overrides,
    changed_fields,
    describe_config,
    from_dict,
    list_configs,
    load_config,
    to_dict,
)

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ModelConfig(channels=30), r"ModelConfig.channels is 30; allowed: multiples of 4"),
        (lambda: ModelConfig(heads=5), r"ModelConfig.heads is 5; allowed: divisors of channels: \[1, 2, 4, 8"),
        (lambda: ModelConfig(pyramid="laplace"), r"ModelConfig.pyramid is 'laplace'; allowed: 'learned', 'gaussian'"),
        (lambda: ModelConfig(modules=2.5), r"ModelConfig.modules is 2.5; allowed: int"),
        (lambda: ModelConfig(spp_sizes=()), r"ModelConfig.spp_sizes is \(\); allowed: one or more"),
        (lambda: TrainConfig(batch_size=0), r"TrainConfig.batch_size is 0; allowed: 1 or more"),
        (lambda: TrainConfig(learning_rate=-1.0), r"TrainConfig.learning_rate is -1.0; allowed: a positive number"),
        (lambda: TrainConfig(beta1=1.0), r"TrainConfig.beta1 is 1.0; allowed: 0 to below 1"),
        (
            lambda: TrainConfig(loss="mea"),
            r"TrainConfig.loss is 'mea'; allowed: mae, charbonnier, psnr, psnr_ssim, rmse, or a function",
        ),
        (lambda: TrainConfig(loss="my.losses:"), r"TrainConfig.loss is 'my.losses:'; allowed: mae"),
        (lambda: TrainConfig(accumulate=3), r"TrainConfig.accumulate is 3; allowed: divisors of batch_size 4"),
        (
            lambda: SourceConfig(dataset="clean"),
            r"SourceConfig.rain is 'none'; allowed: 'light', 'heavy', 'varied', 'real' or 'identity'",
        ),
        (
            lambda: SourceConfig(dataset="folder", reader="tfds"),
            r"SourceConfig.reader is 'tfds'; allowed: 'folder' for dataset 'folder', as only published sets have",
        ),
        (
            lambda: DataConfig(train=(SourceConfig(dataset="rain100l"), SourceConfig(dataset="rainy"))),
            r"DataConfig.train.1.dataset is 'rainy'; allowed: sets with clean pictures",
        ),
        (
            lambda: DataConfig(test=SourceConfig(dataset="rain100l", exclude=("1",))),
            r"DataConfig.test.exclude is \('1',\); allowed: \(\), as it is about training",
        ),
        (lambda: EvalConfig(tile=64, overlap=64), r"EvalConfig.overlap is 64; allowed: less than the 64 pixels"),
        (lambda: DataConfig(train=()), r"DataConfig.train is \(\); allowed: one or more sources"),
        (
            lambda: ExperimentConfig(data=DataConfig(crop_size=100)),
            r"DataConfig.crop_size is 100; allowed: multiples of 8 for a model of 3 levels",
        ),
        (
            lambda: ExperimentConfig(data=DataConfig(crop_size=8), train=TrainConfig(loss="psnr_ssim")),
            r"DataConfig.crop_size is 8; allowed: 11 or more for the loss psnr_ssim, as SSIM's window is 11 wide",
        ),
    ],
)
def test_errors_name_the_field_the_value_and_what_is_allowed(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.parametrize("name", ["rain200h", "rain200l", "did", "rain100l"])
def test_paper_settings_word_for_word(name):
    config = load_config(name)
    assert config == load_config(str(CONFIGS / f"{name}.py"))
    assert (config.name, config.data.root) == (name, f"data/{name}")
    assert config.model == ModelConfig()
    assert {source.dataset for source in (*config.data.train, config.data.test)} == {name}
    train, data = config.train, config.data
    # section 4.1: Adam, mini-batch of 4, 128×128, no augmentation, 2e-4 divided by 2 every 100 of 700 epochs, MAE
    assert (train.batch_size, data.crop_size, train.learning_rate, train.epochs) == (4, 128, 2e-4, 700)
    assert (train.schedule, train.decay_epochs, train.decay_factor, train.loss) == ("step", 100, 0.5, "mae")
    assert not data.flips
    assert not data.rotations
    assert train == dataclasses.replace(TrainConfig())  # and nothing else is switched on


def test_every_config_loads():
    names = {path.name for path in CONFIGS.glob("*.py")} - {"ablation.py"}
    assert {"rain200h.py", "rain200l.py", "did.py", "rain100l.py", "spa.py", "demo.py", "rain200h_pod.py"} <= names
    for name in names:
        assert isinstance(load_config(str(CONFIGS / name)), ExperimentConfig)


def test_spa_scores_rain200h_weights():
    config = load_config("spa")
    assert config.data.test == SourceConfig(dataset="spa", split="test")
    assert config.eval.weights == "runs/rain200h"


def test_changes_as_overrides_that_the_doors_take():
    sources = (SourceConfig(dataset="rain100l", root="a"), SourceConfig(dataset="rain800"))
    old = ExperimentConfig(data=DataConfig(train=sources))
    wanted = [("model.spp_sizes", "(1, 3)"), ("data.train.0.root", "b c"), ("data.train.1.repeat", "2")]
    changes = changed_fields(old, apply_overrides(old, wanted))
    assert [(change.name, str(change.after)) for change in changes] == wanted
    assert [change.override() for change in changes] == [
        "'--config.model.spp_sizes=(1, 3)'",
        "'--config.data.train.0.root=b c'",
        "--config.data.train.1.repeat=2",
    ]
    fewer = ExperimentConfig(data=DataConfig(train=sources[:1]))
    assert [change.name for change in changed_fields(old, fewer)] == ["data.train"]


def test_ablation_changes_one_switch():
    changes = changed_fields(load_config("rain200h"), load_config("ablation:model_4"))
    assert [str(change) for change in changes] == [
        "name: 'rain200h' -> 'model_4'",
        "model.interaction: 'cross_scale' -> 'convolution'",
    ]
    with pytest.raises(ConfigError, match="model_7: no such row; known: model_1"):
        load_config("ablation:model_7")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rain200", "there is no packaged config 'rain200'; did you mean 'rain200"),
        ("fog", "there is no packaged config 'fog'; known: ablation, demo, did"),
        ("nowhere/rain200.py", "nowhere/rain200.py does not exist$"),
        ("nowhere/rain200h.py", "nowhere/rain200h.py does not exist; did you mean 'rain200h'"),
        (str(CONFIGS / "rain200.py"), "did you mean '.*rain200"),
        (str(CONFIGS.parent / "pyproject.toml"), "pyproject.toml is not a Python file"),
        ("ablation", "ablation: get_config takes an argument; name one, as in ablation:NAME"),
        (str(CONFIGS / "ablation.py"), "takes an argument; name one"),
        (f"{CONFIGS / 'demo.py'}:x", "takes no argument; leave out :x"),
    ],
)
def test_config_files_that_cannot_be_loaded(name, message):
    with pytest.raises(ConfigError, match=message):
        load_config(name)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return ModelConfig(chanels=3)", r"config file .*mine\.py, line 4: TypeError: .* 'chanels'.*"),
        ("return load_config(", r"config file .*mine\.py: SyntaxError: '\(' was never closed \(mine\.py, line 4\)"),
        ("return TrainConfig(batch_size=0)", r"TrainConfig.batch_size is 0; allowed: 1 or more"),
    ],
)
def test_config_files_that_fail(body, message, tmp_path):
    (tmp_path / "mine.py").write_text(f"from multifocal_jax.config import *\n\ndef get_config():\n    {body}\n")
    with pytest.raises(ConfigError) as error:
        load_config(str(tmp_path / "mine.py"))
    assert re.fullmatch(message, str(error.value))


def test_overrides_of_every_kind():
    config = apply_overrides(
        ExperimentConfig(),
        [
            ("train.batch_size", "16"),
            ("train.learning_rate", "1e-3"),
            ("train.tensorboard", "false"),
            ("model.spp_sizes", "(1,2)"),
            ("model.pyramid", "average"),
            ("model.projection_kernel", "3"),
            ("data.train.0.root", "photos"),
        ],
    )
    assert config.train.batch_size == 16
    assert config.train.learning_rate == 1e-3
    assert config.train.tensorboard is False
    assert config.model == ModelConfig(spp_sizes=(1, 2), pyramid="average", projection_kernel=3)
    assert config.data.train[0].root == "photos"


@pytest.mark.parametrize("turn", [1, -1])
def test_overrides_are_checked_together_in_any_order(turn):
    overrides = [
        ("data.train.0.dataset", "clean"),
        ("data.train.0.rain", "varied"),
        ("train.batch_size", "6"),
        ("train.accumulate", "3"),
        ("model.levels", "4"),
        ("data.crop_size", "48"),
    ]
    base = ExperimentConfig(data=DataConfig(train=(SourceConfig(dataset="rain100l"), SourceConfig(rain="light"))))
    config = apply_overrides(base, overrides[::turn])
    assert config.data.train == (SourceConfig(dataset="clean", rain="varied"), SourceConfig(rain="light"))
    assert (config.train.batch_size, config.train.accumulate, config.model.multiple) == (6, 3, 16)
    with pytest.raises(ConfigError, match=r"SourceConfig.rain is 'none'"):
        apply_overrides(base, overrides[:1])


def test_the_last_override_of_a_field_counts():
    first, second = ("model.spp_sizes", "(1,2)"), ("model.spp_sizes.1", "4")
    assert apply_overrides(ModelConfig(), [("spp_sizes", "(1,2)"), ("spp_sizes.1", "4")]).spp_sizes == (1, 4)
    assert apply_overrides(ExperimentConfig(), [second, first]).model.spp_sizes == (1, 2)
    assert apply_overrides(ExperimentConfig(), [("train.seed", "1"), ("train.seed", "2")]).train.seed == 2


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.batchsize", "1", "'train.batchsize' does not exist; did you mean 'batch_size'?"),
        ("tarin.seed", "1", "did you mean 'train'?"),
        ("learning_rate", "1", "did you mean 'train.learning_rate'?"),
        ("train", "1", "is a group; set one of its fields: seed"),
        ("train.seed.x", "1", "train.seed is a value"),
        ("data.train.3.root", "x", "'3' is not an index of 1 entries; allowed: 0 to 0"),
        ("train.batch_size", "four", "train.batch_size is 'four'; allowed: int"),
        ("model.pyramid", "x", "model.pyramid is 'x'; allowed: learned, gaussian, average"),
        ("train.tensorboard", "1", "train.tensorboard is '1'; allowed: True, False"),
        ("model.spp_sizes", "1 3", "a tuple such as"),
        ("model.spp_sizes", "{[]}", "a tuple such as"),
        ("train.seed", str(2**63), "TrainConfig.seed is 9223372036854775808; allowed: below 2**63"),
    ],
)
def test_overrides_that_cannot_be_applied(name, value, message):
    with pytest.raises(ConfigError) as error:
        apply_overrides(ExperimentConfig(), [(name, value)])
    assert message in str(error.value)


def test_configs_survive_json():
    config = apply_overrides(ExperimentConfig(), [("model.spp_sizes", "(2,)"), ("data.train.0.root", "x")])
    assert from_dict(ExperimentConfig, to_dict(config)) == config
    with pytest.raises(ConfigError, match="unknown fields colour of ModelConfig"):
        from_dict(ModelConfig, {"colour": 1})


def test_changes_of_a_packaged_config():
    sources = (SourceConfig(dataset="folder", root="a"), SourceConfig(dataset="rain800", repeat=2))
    config = load_config(
        "rain200h", {"name": "mine", "train.batch_size": 16, "data.train": sources, "model.heads": "8"}
    )
    base = load_config("rain200h")
    assert config == dataclasses.replace(
        base,
        name="mine",
        model=dataclasses.replace(base.model, heads=8),
        data=dataclasses.replace(base.data, train=sources),
        train=dataclasses.replace(base.train, batch_size=16),
    )
    for wrong, message in (
        ({"train.batchsize": 1}, "did you mean 'batch_size'"),
        ({"train.batch_size": 2.5}, "TrainConfig.batch_size is 2.5; allowed: int"),
        ({"data.train": ("rain800",)}, r"DataConfig.train is \('rain800',\); allowed: a tuple of SourceConfig"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config("rain200h", wrong)


def test_every_packaged_config_is_listed_with_its_purpose():
    lines = dict(line.split(maxsplit=1) for line in list_configs().splitlines())
    assert set(lines) == {path.stem for path in CONFIGS.glob("*.py")}
    assert lines["rain200l"] == "Rain200L with the paper's settings (section 4.1; table 6)."


@pytest.mark.parametrize("name", ["rain200h_pod", "release_general"])
def test_a_printed_config_gives_the_config_again(name):
    """Every field stands on a line of its own, as an argument with its comment."""
    lines = describe_config(load_config(name)).splitlines()
    assert all(re.fullmatch(r".*  # \S.*", line) for line in lines)
    words = [shlex.split(line, comments=True) for line in lines]
    assert all(len(found) == 1 for found in words)
    given = [word.removeprefix("--config.").split("=", 1) for (word,) in words]
    base = ExperimentConfig(data=DataConfig(train=load_config(name).data.train))
    assert apply_overrides(base, given) == load_config(name)
    assert f"{'--config.data.crop_size=128':<44}  # side of the square training crops in pixels (section 4.1)" in lines
