"""Data: events in, frames out."""

from bregma.data.binning import bin_events
from bregma.data.catalogue import load
from bregma.data.dataset import DenseFrames, FrameDataset, Splits, collate, stratified_cut

__all__ = ["DenseFrames", "FrameDataset", "Splits", "bin_events", "collate", "load", "stratified_cut"]
