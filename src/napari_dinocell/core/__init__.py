"""Headless core: numpy, scipy, scikit-image, torch; never Qt, never napari."""
