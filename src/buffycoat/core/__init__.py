"""Running steps, naming things, writing files: nothing in here can change a number."""
