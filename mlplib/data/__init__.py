"""Data sets by name: :func:`load` returns uint8 images, labels, names and hashes."""

from .catalog import CATALOG, content_hash
from .dataset import ImageDataset, Split, subset_indices
from .get.real import real_labels
from .loading import load
