"""The executor plane: it attaches to a control plane, takes assignments, and owns the engine that carries them out."""
