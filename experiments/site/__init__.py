"""The documentation site: the reference's names, the figure of rounds, and checks of what was built."""
