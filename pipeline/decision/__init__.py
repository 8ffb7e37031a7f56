"""Decision on the next milestone, from the committed metrics and their staleness."""
