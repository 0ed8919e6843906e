"""The Model Context Protocol server: tools that score and explain local photos, and write nothing."""
