"""Layers that torch has, too, made faster for small networks."""
