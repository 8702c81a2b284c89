"""What must hold of the tree itself: who imports whom, what may lie where, and what no file may say."""
