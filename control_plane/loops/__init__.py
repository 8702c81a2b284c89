"""What happens with time: each loop takes steps, woken early by hints and kept honest by its interval."""
