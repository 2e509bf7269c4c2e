"""A trained network in use: load, evaluate, photos, export, a page to draw on."""
