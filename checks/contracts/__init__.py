"""Which checks make a contract, which profile fits, which bounds data suggest; Great Expectations."""
