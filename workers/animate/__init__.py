"""Animate a photo: a small diffusion model generates a motion field, and the photo is warped by it."""
