"""What the user of napari sees. Qt and napari are known here and nowhere else."""
