"""The plans that a search proposes, and the words that they become."""

from typing import Any

import optuna
import pytest

from mnist_lightning.config.compose import CONF_DIR, choices, compose_config, parse_config
from mnist_lightning.config.errors import ConfigError
from mnist_lightning.config.plan import steps_of
from mnist_lightning.search.rules import Range, Search
from mnist_lightning.search.space import overrides, plan, space

TWO_POOL: dict[str, Any] = {
    **{"first": "c", "width": 8, "stages": 3, "pool": "p", "end": "gdc,head", "share": "none"},
    **{"blocks 1": 2, "blocks 2": 2, "blocks 3": 2, "kind 1": "c", "kind 2": "c", "kind 3": "v"},
    **{"growth 2": 1.5, "growth 3": 1.25},
}


def search_of(choice: str) -> Search:
    """A choice of conf/search, with what it builds on."""
    values = dict(parse_config((CONF_DIR / "search" / "default.yaml").read_text("utf-8")))
    values |= parse_config((CONF_DIR / "search" / f"{choice}.yaml").read_text("utf-8"))
    values.pop("defaults", None)
    return Search.model_validate(parse_config_values(values))


def parse_config_values(values: dict[Any, Any]) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.create(values))


def test_drawn_values_are_a_plan() -> None:
    assert ",".join(plan(TWO_POOL)) == "c8,c8,p,c12,c12,p,v15,v15,gdc,head"


def test_only_convolutions_from_a_width_to_itself_share_weights() -> None:
    shared = TWO_POOL | {"share": "stage", "blocks 2": 3}
    assert ",".join(plan(shared)) == "c8,c8,p,c12,c12@b,c12@b,p,v15,v15,gdc,head"


def test_weights_are_shared_within_stages_or_in_the_whole_network() -> None:
    drawn = TWO_POOL | {"width": 24, "growth 2": 1.0, "growth 3": 1.0, "blocks 1": 1, "end": "p,gdc,head"}
    drawn |= {"kind 2": "d", "kind 3": "d"}
    assert ",".join(plan(drawn | {"share": "stage"})) == ",".join(compose_config("model=shared").model.plan)
    assert ",".join(plan(drawn | {"share": "net"})) == "c24,p,d24@a,d24@a,p,d24@a,d24@a,p,gdc,head"


def test_every_stage_has_a_label_of_its_own() -> None:
    drawn = TWO_POOL | {"stages": 9, "share": "stage"} | {f"blocks {stage}": 3 for stage in range(1, 10)}
    drawn |= {f"kind {stage}": "c" for stage in range(1, 10)} | {f"growth {stage}": 1.0 for stage in range(2, 10)}
    assert plan(drawn).count("c8@i") == 3


@pytest.mark.parametrize("choice", choices("search"))
def test_most_of_what_a_choice_proposes_are_networks(choice: str) -> None:
    search = search_of(choice)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    fit = 0
    for _ in range(100):
        drawn = study.ask(space(search)).params
        assert len(overrides(drawn, search)) == 1 + len(search.vary)
        try:
            fit += bool(steps_of(plan(drawn)))
        except ValueError as error:  # a kernel larger than the map: refused before it trains
            assert "larger than the map" in str(error)  # noqa: PT017
    assert fit >= 80


def test_a_float_is_a_word_of_three_digits() -> None:
    search = search_of("default").model_copy(
        update={"plan": None, "vary": {"optimizer.lr": Range(low=0.01, high=0.1, log=True)}}
    )
    assert overrides({"optimizer.lr": 0.0123456}, search) == ["optimizer.lr=0.0123"]


def test_a_range_that_is_none_is_refused_by_its_name() -> None:
    search = search_of("default").model_copy(update={"vary": {"optimizer.lr": Range(low=2, high=1)}})
    with pytest.raises(ConfigError, match=r"search: optimizer\.lr: "):
        space(search)
