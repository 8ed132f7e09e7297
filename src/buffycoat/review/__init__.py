"""Which images a person should look at, and why."""
