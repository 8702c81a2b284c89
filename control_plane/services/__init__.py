"""Use cases: they decide and call ports; no wire and no SQL here."""
