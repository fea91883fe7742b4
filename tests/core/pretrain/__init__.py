"""Tests of the self-supervised part; a package, because file names repeat those of other parts."""
