"""Several trainings that belong together: points of a grid, each with several seeds (``nmt sweep``)."""
