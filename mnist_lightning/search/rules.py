"""The rules of a search's own values, the node `search`; imports neither torch nor Optuna."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator
from typing_extensions import Self

from mnist_lightning.config.fields import Closed, Share, Whole

FINISHED = "finished"  # state of a trial in search.csv
Value = Annotated[str, Field(pattern=r"^\S+$")] | int | float | bool


class Range(Closed):
    """Numbers from low to high: whole ones where all three are."""

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False


Values = Annotated[
    Annotated[Range, Tag("range")] | Annotated[list[Value], Field(min_length=1), Tag("choices")],
    Discriminator(lambda given: "range" if isinstance(given, dict | Range) else "choices"),
]


class Plans(Closed):
    """What plans are made of; `conf/search/default.yaml` says what each means."""

    first: Values
    stages: Values
    width: Values
    growth: Values
    blocks: Values
    kind: Values
    share: Annotated[list[Literal["none", "stage", "net"]], Field(min_length=1)]
    pool: Values
    end: Values


class Search(Closed):
    trials: Whole
    workers: Whole
    name: Annotated[str, Field(pattern=r"^[\w.+-]+$")] | None
    storage: str | None
    criterion: Literal["acc", "loss"]
    objective: Literal["params", "multiply_adds", "activation_bytes"] | None
    sampler: Literal["tpe", "nsga2"]
    prune_after: list[Whole]
    keep: Annotated[Share, Field(gt=0)]
    plan: Plans | None
    vary: dict[str, Values]

    @model_validator(mode="after")
    def there_is_something_to_try(self) -> Self:
        if not self.plan and not self.vary:
            raise ValueError("search.plan=null: leaves nothing to try; give search.vary={KEY:[VALUE,...]}, or keep the plans")
        return self


class Searching(Closed):
    """The configuration of a search, apart from that of its runs."""

    search: Search


def composable(words: Sequence[str]) -> list[str]:
    """The words of a search for Hydra, which by itself puts no list where a choice has a range, and adds no key to one."""
    composed: list[str] = []
    for word in words:
        key = word.partition("=")[0]
        if key.removeprefix("search.plan.") in Plans.model_fields:
            composed += [f"~{key}", f"+{word}"]
        else:
            composed.append(f"++{word}" if key.startswith(("search.plan.", "search.vary")) else word)
    return composed
