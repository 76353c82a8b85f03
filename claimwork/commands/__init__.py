"""What each command does; imported when it is given, so that `--help` waits for nothing."""
