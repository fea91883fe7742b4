"""python -m napari_dinocell.core.adapt: see `command`."""

import sys

from napari_dinocell.core.adapt.command import main

if __name__ == "__main__":
    sys.exit(main())
