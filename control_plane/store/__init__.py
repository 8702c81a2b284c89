"""Where the control plane's state is kept. Both stores satisfy `ports` and pass the same contract suite."""
