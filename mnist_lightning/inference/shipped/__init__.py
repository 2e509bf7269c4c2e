"""Trained networks that come along, by name; docs/results.md has the commands that trained them. Imports no torch."""

from pathlib import Path

SHIPPED = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.safetensors"))}
DEFAULT = "net3"
