"""What the services need of the world. Adapters satisfy these by shape; `tests/contract` is the full statement of the
stores' behaviour.
"""
