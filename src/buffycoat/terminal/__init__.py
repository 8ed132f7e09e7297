"""What a person sees of a run: the outlook before it, a line per job, scores at the end; and the check of a machine."""
