"""What runs of earlier versions left, in today's words."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

# Keys that they lack, with the values that they had.
LATER: dict[str, dict[str, Any]] = {
    "gate": {
        **{"dataset": "MNIST", "count": "trainable"},
        **dict.fromkeys(("max_multiply_adds", "max_activation_bytes", "max_file_bytes")),
    }
}
PLAN = "mnist_lightning.models.Plan"


def in_todays_words(cfg: DictConfig) -> DictConfig:
    """A run's configuration with every key of today's; the network that it names stays the same, layer by layer."""
    for group, keys in LATER.items():
        if OmegaConf.is_dict(cfg.get(group)):
            cfg[group] = OmegaConf.merge(keys, cfg[group])
    model = cfg.get("model")
    target = str(model.get("_target_")) if OmegaConf.is_dict(model) else ""
    if target == "mnist_lightning.models.TwoPool":
        a, b, c, d, e, f = model.channels
        words = f"c{a} c{b} p c{c} c{d} p v{e} v{f} gdc head"
    elif target == "mnist_lightning.models.Shared":
        n = model.width
        words = f"c{n} p d{n}@a d{n}@a p d{n}@b d{n}@b p gdc head"
    else:
        return cfg
    cfg.model = {"_target_": PLAN, "plan": words.split(), "activation": model.activation, "norm_first": True}
    return cfg
