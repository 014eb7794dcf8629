"""The configs that ship: valid, teaching, and found in a checkout and in a wheel alike."""

from pathlib import Path

import pytest
import yaml

from ssrnn_dist.config import RunConfig, load_config
from ssrnn_launch.folders import configs_folder
from tests.helpers.launching import REPOSITORY

SHIPPED = [
    "laptop",
    "many-nodes",
    "mixture",
    "one-gpu",
    "one-node-8-gpus",
    "paper-small",
    "paper-wikitext103",
    "quickstart",
]


def test_all_are_there() -> None:
    assert configs_folder() == REPOSITORY / "launch" / "configs"
    assert sorted(path.stem for path in configs_folder().glob("*.yaml")) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_each_is_valid_and_teaches(name: str) -> None:
    path = configs_folder() / f"{name}.yaml"
    config = load_config(path)
    assert config.name == name
    text = path.read_text()
    assert text.startswith("# ")
    assert f"launch/configs/{name}.yaml" in text  # it says how it is started
    assert text.count("#") >= 10


@pytest.mark.parametrize("name", SHIPPED)
def test_prices_are_marked_as_examples(name: str) -> None:
    path: Path = configs_folder() / f"{name}.yaml"
    if load_config(path).cost.usd_per_worker_hour is not None:
        (line,) = [line for line in path.read_text().splitlines() if "usd_per_worker_hour" in line]
        assert "AN EXAMPLE" in line


def test_many_nodes_is_what_it_says() -> None:
    import torch

    from ssrnn_dist.config import ModelConfig
    from ssrnn_dist.model import LanguageModel

    config = load_config(configs_folder() / "many-nodes.yaml")
    assert (config.scale.workers, config.scale.zero_stage, config.train.precision) == ((48, 64), 3, "bf16")
    with torch.device("meta"):
        model = LanguageModel(ModelConfig(**config.model.model_dump(), vocab_size=50304, feedback=config.feedback))
    assert sum(each.numel() for each in model.parameters()) == pytest.approx(1.5e9, rel=0.02)


def test_quickstart_shares_its_sections_with_the_model() -> None:
    values = yaml.safe_load((configs_folder() / "quickstart.yaml").read_text())
    assert set(values) <= set(RunConfig.model_fields)
    assert values["data"]["build"]["sources"] == ["stdlib:"]


def test_the_papers_set_up_is_the_papers_and_the_small_one_is_the_same_recipe() -> None:
    """The numbers of the reference code's configs/wikitext103_word/gru_3L512.yml."""
    whole, small = (load_config(configs_folder() / f"paper-{name}.yaml") for name in ("wikitext103", "small"))
    assert (whole.model.d_model, whole.model.n_layers) == (512, 3)
    assert (whole.train.sequence_length, whole.train.lanes) == (256, 128)
    scaled = ("steps", "tokens_per_batch", "sequence_length", "validate_every_steps")
    for config in (whole, small):
        assert (config.feedback.kind, config.feedback.decay, config.feedback.refinements) == (
            "stationary",
            "linspace",
            0,
        )
        assert not config.train.carry_state
    kept = [each.train.model_dump(exclude=set(scaled)) for each in (whole, small)]
    assert kept[0] == kept[1]
    lstm = load_config(configs_folder() / "paper-wikitext103.yaml", ["model.cell=lstm", "model.output=hc"])
    assert lstm.model.output == "hc"
