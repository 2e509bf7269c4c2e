"""Networks written as a line: the study's own as plans, what each word builds, and what is said of a plan that does not fit."""

import re
from collections.abc import Callable

import pytest
import torch

from mnist_lightning.config.plan import WORDS
from mnist_lightning.files import CHECKOUT
from mnist_lightning.models import Net1, Net2, Net3, Plan, count_parameters
from mnist_lightning.models.summary import summarize
from tests.conftest import Finished, one_error

Cli = Callable[..., Finished]

PAGE = (CHECKOUT / "docs" / "networks.md").read_text("utf-8")
# The study's networks in its table, by the first column.
PLANS = dict(re.findall(r"^\| (?:`model=)?(\w+)`? \| `(\S+,head)` \|", PAGE, flags=re.MULTILINE))
NET1, NET2, NET3, TWO_POOL, SHARED = (PLANS[name] for name in ("Net1", "Net2", "Net3", "two_pool", "shared"))


def plan(text: str, activation: str = "silu", norm_first: bool = True) -> Plan:
    return Plan(text.split(","), activation, norm_first)


@pytest.mark.parametrize(("net", "text", "norm_first"), [(Net1, NET1, True), (Net2, NET2, True), (Net3, NET3, False)])
def test_a_published_network_as_a_plan_is_the_same_network(net: type, text: str, norm_first: bool) -> None:
    assert summarize(plan(text, "relu", norm_first)) == summarize(net())  # layers, shapes, receptive fields, parameters
    torch.manual_seed(0)
    published = net().state_dict()
    torch.manual_seed(0)
    ours = plan(text, "relu", norm_first).state_dict()
    assert list(ours) == list(published)
    assert all(torch.equal(ours[name], published[name]) for name in ours)


@pytest.mark.parametrize(
    ("text", "params", "sides", "fields"),
    [
        (TWO_POOL, [72, 576, 864, 1296, 1728, 2304, 144, 160], [28, 28, 14, 14, 5, 3, 1, 1], [3, 5, 10, 14, 24, 32, 40, 40]),
        (
            SHARED,
            [216, 216, 576, 0, 0, 216, 576, 0, 0, 216, 240],  # a convolution that works again has its parameters once
            [28, 14, 14, 14, 14, 7, 7, 7, 7, 1, 1],
            [3, 8, 8, 12, 12, 22, 22, 30, 30, 50, 50],
        ),
    ],
)
def test_convolutions_of_the_studys_own(text: str, params: list[int], sides: list[int], fields: list[int]) -> None:
    convolutions = [layer for layer in summarize(plan(text)) if layer.kind == "Conv2d"]
    assert [layer.params for layer in convolutions] == params
    assert [layer.output_shape[1] for layer in convolutions] == sides
    assert [layer.receptive_field for layer in convolutions] == fields


def test_a_choice_is_the_plan_it_names(cli: Cli) -> None:
    for choice, text in (("two_pool", TWO_POOL), ("shared", SHARED)):
        assert cli("summary", f"model={choice}").out == cli("summary", f"model.plan=[{text}]").out


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("head", 28 * 28 * 10),  # over the whole map
        ("k4,head", 4 * 25 + 8 + 28 * 28 * 40),
        ("c4,se2,gap,head", 36 + 8 + (4 * 2 + 2 + 2 * 4 + 4) + 40),
        ("c4,p,c4+,c4+@a,c4@a,a,gap,head", 36 + 8 + 144 + 8 + 144 + 16 + 40),
        ("c4,w2:none,w8:hardswish,gdc,head", 36 + 8 + 8 + 4 + 16 + 16 + 8 * 28 * 28 + 80),
        ("d6,d6@b,p,d6@b,gap,head", 9 + 6 + 12 + (54 + 36) + 24 + 60),
    ],
)
def test_parameters_are_those_of_the_words(text: str, params: int) -> None:
    net = plan(text)
    assert count_parameters(net) == params
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_a_residual_adds_what_comes_in() -> None:
    with_it, without = plan("c4,c4+,gap,head"), plan("c4,c4,gap,head")
    without.load_state_dict(dict(zip(without.state_dict(), with_it.state_dict().values(), strict=True)))
    images = torch.rand(3, 1, 28, 28)
    first, added = torch.nn.Sequential(*list(without.eval())[:3]), torch.nn.Sequential(*list(without)[3:6])
    inside = first(images)
    assert torch.equal(with_it.eval()[3](inside), inside + added(inside))


def test_the_batch_norm_stands_where_norm_first_says() -> None:
    kinds = {first: [layer.kind for layer in summarize(plan("c4:relu,gap,head", norm_first=first))] for first in (True, False)}
    assert kinds[True][:3] == ["Conv2d", "BatchNorm2d", "ReLU"]
    assert kinds[False][:3] == ["Conv2d", "ReLU", "BatchNorm2d"]


WRONG = {  # and what is said of it, behind the item and the map that it meets
    "c8,z3,head": (
        "item 2, z3, on a map of 8×28×28: there is no such layer; there are c8 v8 k8 w8 d8 p a gap gdc se4 o2.5 head, "
        "and behind a convolution + @a :relu, in this order"
    ),
    "c8,p,p,p,v9,v8,head": "item 6, v8, on a map of 9×1×1: its kernel is larger than the map; pool less, or use c, which pads",
    "p,p,p,p,p,head": "item 5, p, on a map of 1×1×1: the pooling is larger than the map; pool less, or use c, which pads",
    "c8,c9+,head": "item 2, c9+, on a map of 8×28×28: + adds what comes in to what comes out, 9×28×28; give both one shape",
    "d8@a,p,d8@a,head": "item 3, d8@a, on a map of 8×14×14: @a is a d from 1 to 8 channels; use another label",
    "c8,head,p": "item 3, p, on a map of 10×1×1: stands behind head, which is the last item",
    "c,head": "item 1, c, on a map of 1×28×28: needs a number of channels, such as c8",
    "c8.5,head": "item 1, c8.5, on a map of 1×28×28: needs a number of channels, such as c8",
    "o0,head": "item 1, o0, on a map of 1×28×28: needs a percentage of values to drop, such as o2.5",
    "p3,head": "item 1, p3, on a map of 1×28×28: takes no number; write p",
    "p+,head": "item 1, p+, on a map of 1×28×28: +, @ and : go with a convolution; write p",
    "c8:elu,head": "item 1, c8:elu, on a map of 1×28×28: there is no such activation; use one of relu, silu, hardswish, none",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_plan_is_one_line_with_the_item_and_the_map(cli: Cli, text: str) -> None:
    assert one_error(cli("summary", f"model.plan=[{text}]"), 2) == f"model.plan, {WRONG[text]}"


@pytest.mark.parametrize("words", [["model=plan"], ["-m", "seed=0,1"]])
def test_a_run_and_a_sweep_refuse_a_wrong_plan(cli: Cli, words: list[str]) -> None:
    text = next(iter(WRONG))
    assert one_error(cli(*words, f"model.plan=[{text}]"), 2) == f"model.plan, {WRONG[text]}"


def test_the_page_shows_a_refusal_as_it_is_and_every_word(cli: Cli) -> None:
    [(text, shown)] = re.findall(r"summary 'model.plan=\[(\S+)\]'\nerror: (.+)", PAGE)
    assert shown == f"model.plan, {WRONG[text]}"
    words = re.findall(r"^\| (`\w[\w.]*`(?:, `\w`)?) \|", PAGE.partition("| suffix |")[0], flags=re.MULTILINE)
    assert " ".join(words).replace("`", "").replace(",", "") == WORDS


def test_a_plan_without_its_end_is_refused(cli: Cli) -> None:
    assert one_error(cli("summary", "model.plan=[c8,p]"), 2) == (
        "model.plan ends with p, at 8×14×14: add head as its last item, which gives the ten classes"
    )
    assert one_error(cli("summary", "model.plan=[]"), 2).startswith("model.plan is empty, at 1×28×28: add head")


def test_a_plan_needs_no_model_beside_it_but_another_model_wins(cli: Cli) -> None:
    assert "parameters: 168, budget" in cli("summary", "model.plan=[c8,p,gap,head]").out  # 72 + 16 + 80
    line = one_error(cli("summary", "model=net2", "model.plan=[c8,gap,head]"), 2)
    assert line.startswith("model.plan=[c8,gap,head]: there is no key plan; ")
