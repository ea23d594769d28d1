"""Tools for those who develop the project: nothing a cluster runs, nothing the wheel holds."""
