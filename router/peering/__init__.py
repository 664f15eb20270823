"""Other regions: their snapshots, and asking their routers for slots."""
