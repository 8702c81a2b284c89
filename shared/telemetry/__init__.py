"""How a process tells what it does: logs and traces."""
