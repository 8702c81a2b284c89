"""The decisions, pure: nothing here knows the wire, the store, the network or the settings, and nothing here waits."""
