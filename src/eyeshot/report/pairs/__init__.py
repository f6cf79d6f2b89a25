"""The report of a run that answers with masks or pictures: whole pictures laid open."""
