"""What every node here shares: its process, how it declares parameters, and nodes started as child processes."""
