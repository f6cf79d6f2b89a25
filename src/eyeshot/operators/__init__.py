"""What is known of each operator, by its name. The rest of the house asks for a node's family."""

from eyeshot.operators.families import family_of

__all__ = ["family_of"]
