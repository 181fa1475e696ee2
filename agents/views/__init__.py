"""The pages of what acts: each view parses, calls one service or selector, and renders."""
