"""A search for small, accurate networks: Optuna proposes plans and recipes, each is a run like any other."""
