"""Durable workflows: placeholder of this branch, the package's public names come with its core."""
