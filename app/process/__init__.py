"""Code shared by every process: health, orderly stop, quarantine, its child processes, and a safe Faust worker."""
