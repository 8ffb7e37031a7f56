"""The decision: committed metrics and staleness in, the next milestone out."""
