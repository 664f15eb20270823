"""The control plane: one router per region decides where each request runs."""
