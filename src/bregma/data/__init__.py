"""Data: events in, frames out."""

from bregma.data.augment import shift_frames
from bregma.data.binning import bin_events
from bregma.data.catalogue import load
from bregma.data.dataset import DenseFrames, FrameDataset, Splits, collate, stratified_cut
from bregma.data.download import FileState, fetch, locate, verify
from bregma.data.heidelberg import SpikeRecordings
from bregma.data.mnist import PixelSequences, psmnist_permutation, read_idx
from bregma.data.nmnist import BinRecordings, decode_bin
from bregma.data.saccade import Camera, Events, simulate
from bregma.data.sources import DATASETS, DataFile, DatasetInfo, default_root

__all__ = [
    "DATASETS",
    "BinRecordings",
    "Camera",
    "DataFile",
    "DatasetInfo",
    "DenseFrames",
    "Events",
    "FileState",
    "FrameDataset",
    "PixelSequences",
    "SpikeRecordings",
    "Splits",
    "bin_events",
    "collate",
    "decode_bin",
    "default_root",
    "fetch",
    "load",
    "locate",
    "psmnist_permutation",
    "read_idx",
    "shift_frames",
    "simulate",
    "stratified_cut",
    "verify",
]
