"""Code shared by every process: health, orderly stop, supervisor, and a safe Faust worker."""
