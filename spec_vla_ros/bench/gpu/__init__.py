"""What a GPU has to show: a campaign of checks and measurements that one command runs."""
