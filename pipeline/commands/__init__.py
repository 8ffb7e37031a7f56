"""What the commands of ``hydrogate`` run that are no DVC stage."""
