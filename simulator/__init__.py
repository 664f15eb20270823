"""The discrete-event simulator: plans capacity with the policy that the router runs."""
