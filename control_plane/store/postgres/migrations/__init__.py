"""The schema's history: numbered SQL files that are never edited once released."""
