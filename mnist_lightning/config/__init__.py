"""The configuration: its rules, how it is composed, what is built from it. Imports neither torch nor lightning."""
