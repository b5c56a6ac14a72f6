"""Data sets by name: :func:`load` gives uint8 images, labels and what identifies them."""

from .catalog import CATALOG, content_hash
from .dataset import ImageDataset, Split, subset_indices
from .get.real import real_labels
from .loading import load
