"""Images read by windows, each stored sample once."""
