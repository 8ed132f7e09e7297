"""What the command says on a terminal."""
