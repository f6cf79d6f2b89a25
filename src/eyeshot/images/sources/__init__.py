"""Images that are read by windows; each stored sample is decoded once."""
