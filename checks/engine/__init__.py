"""How a check is declared, run on parts, merged, judged and waived; pandera's second opinion."""
