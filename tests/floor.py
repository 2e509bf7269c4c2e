"""`python -m tests.floor`: the lower bounds of pyproject.toml as constraints for pip, by which `make floor` installs."""

import re
from importlib.metadata import requires


def constraints() -> list[str]:
    """`NAME==VERSION` for every requirement of the project and of its extras."""
    bounds = (re.match(r"([\w.-]+)[^;]*>=([\w.]+)", requirement) for requirement in requires("mnist-lightning") or ())
    return list(dict.fromkeys(f"{bound[1]}=={bound[2]}" for bound in bounds if bound))


if __name__ == "__main__":
    print("\n".join(constraints()))
