"""Images written band by band; a run can be resumed, and files are replaced only on request."""
