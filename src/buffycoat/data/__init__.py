"""What the stages share about images, cell types and tables."""
