"""The report of a run that returns masks or pictures: whole pictures with their errors."""
