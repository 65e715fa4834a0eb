"""What the command line can do: trace, check."""
