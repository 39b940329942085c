"""The timeline form of a workflow: steps composed with `>>`, and rules about where it goes."""
