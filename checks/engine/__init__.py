"""Check engine: declare checks, run them on parts, merge and evaluate results, apply waivers, verify with pandera."""
