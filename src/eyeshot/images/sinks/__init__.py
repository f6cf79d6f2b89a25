"""Images written band by band, resumable, never over another file unasked."""
