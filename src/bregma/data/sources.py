"""Where the data sets come from: official addresses, digests, licences, and what to cite."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes:
        name: Name of the file in its folder.
        urls: Addresses, tried in order.
        md5: Digest of the file as it is downloaded.
        size: Its length in bytes, or None where no page states it.
        unpacked: Name of what is inside, if the file is unpacked after the download.
        unpacked_md5: Digest of what is inside, where known.
    """

    name: str
    urls: tuple[str, ...]
    md5: str
    size: int | None = None
    unpacked: str | None = None
    unpacked_md5: str | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """What `bregma data` prints, fetches and verifies.

    Attributes:
        name: Short name, also that of the data set's folder.
        title: Full name.
        what: What a sample is and how it enters a network by default.
        url: Official page.
        licence: Licence of the data.
        citation: What to cite.
        classes: Number of classes.
        counts: Samples per official part, as (part, number).
        files: Its files; empty if it comes with a dependency.
        shares: Name of the data set whose files these are, if not its own.
    """

    name: str
    title: str
    what: str
    url: str
    licence: str
    citation: str
    classes: int
    counts: tuple[tuple[str, int], ...]
    files: tuple[DataFile, ...] = ()
    shares: str | None = None

    @property
    def folder(self) -> str:
        """Folder of the files below the data root: the data set's name, or that of the one whose files it shares."""
        return self.shares or self.name


def default_root() -> Path:
    """Folder of the data files: the environment variable BREGMA_DATA, or else ~/.cache/bregma."""
    named = os.environ.get("BREGMA_DATA")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "bregma"


def _mnist(stem: str, size: int, md5: str, unpacked_md5: str) -> DataFile:
    name = f"{stem}-ubyte.gz"
    bases = "https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"
    return DataFile(name, tuple(base + name for base in bases), md5, size, None, unpacked_md5)


def _heidelberg(stem: str, md5: str, size: int | None = None, unpacked_md5: str | None = None) -> DataFile:
    bases = "https://zenkelab.org/datasets/", "https://compneuro.net/datasets/"
    name = f"{stem}.h5.zip"
    return DataFile(name, tuple(base + name for base in bases), md5, size, f"{stem}.h5", unpacked_md5)


def _nmnist(name: str, path: str, md5: str) -> DataFile:
    base = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files/"
    return DataFile(name, (f"{base}{path}/file_downloaded",), md5)


_MNIST_FILES = (
    _mnist("train-images-idx3", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
    _mnist("train-labels-idx1", 28_881, "d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
    _mnist("t10k-images-idx3", 1_648_877, "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
    _mnist("t10k-labels-idx1", 4_542, "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
)
_MNIST_CITATION = "LeCun, Bottou, Bengio, Haffner 1998, Proceedings of the IEEE 86(11):2278-2324"
_HEIDELBERG_CITATION = (
    "Cramer, Stradmann, Schemmel, Zenke 2020, IEEE Transactions on Neural Networks and Learning Systems 33:2744-2757, "
    "doi 10.1109/TNNLS.2020.3044364"
)

#: Every data set that has a name, in the order in which it is listed.
DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo(
            name="digits",
            title="Handwritten digits before a simulated event camera",
            what="1,797 real 8x8 images that come with scikit-learn; simulated events, 20 steps of 2 x 20 x 20 pixels",
            url="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
            licence="CC BY 4.0",
            citation="Alpaydin and Kaynak 1998, UCI Machine Learning Repository, doi 10.24432/C50P49",
            classes=10,
            counts=(("train", 1438), ("test", 359)),
        ),
        DatasetInfo(
            name="mnist",
            title="MNIST, one row of pixels per step",
            what="real 28x28 images of handwritten digits; 28 steps of 28 grey values in [0, 1]",
            url="http://yann.lecun.com/exdb/mnist/",
            licence="CC BY-SA 3.0",
            citation=_MNIST_CITATION,
            classes=10,
            counts=(("train", 60_000), ("test", 10_000)),
            files=_MNIST_FILES,
        ),
        DatasetInfo(
            name="psmnist",
            title="Permuted sequential MNIST, one pixel per step",
            what="the images of MNIST, pixels in one fixed shuffled order; 784 steps of 1 grey value in [0, 1]",
            url="http://yann.lecun.com/exdb/mnist/",
            licence="CC BY-SA 3.0",
            citation=f"{_MNIST_CITATION}; Le, Jaitly, Hinton 2015, arXiv 1504.00941",
            classes=10,
            counts=(("train", 60_000), ("test", 10_000)),
            files=_MNIST_FILES,
            shares="mnist",
        ),
        DatasetInfo(
            name="nmnist",
            title="Neuromorphic-MNIST",
            what="recordings of MNIST's images by a moving event camera; 31 steps (10 ms) of 2 x 34 x 34 pixels",
            url="https://doi.org/10.17632/468j46mzdv.1",
            licence="CC BY-SA 4.0",
            citation="Orchard, Jayawant, Cohen, Thakor 2015, Front. Neurosci. 9:437, doi 10.3389/fnins.2015.00437",
            classes=10,
            counts=(("train", 60_000), ("test", 10_000)),
            files=(
                _nmnist("Train.zip", "39c25547-014b-4137-a934-9d29fa53c7a0", "20959b8e626244a1b502305a9e6e2031"),
                _nmnist("Test.zip", "05a4d654-7e03-4c15-bdfa-9bb2bcbea494", "69ca8762b2fe404d9b9bad1103e97832"),
            ),
        ),
        DatasetInfo(
            name="shd",
            title="Spiking Heidelberg Digits",
            what="spoken digits, German and English, through a model of the cochlea; 100 steps (14 ms) of 140 channels",
            url="https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/",
            licence="CC BY 4.0",
            citation=_HEIDELBERG_CITATION,
            classes=20,
            counts=(("train", 8_156), ("test", 2_264)),
            files=(
                _heidelberg("shd_train", "f3252aeb598ac776c1b526422d90eecb"),
                _heidelberg("shd_test", "1503a5064faa34311c398fb0a1ed0a6f"),
            ),
        ),
        DatasetInfo(
            name="ssc",
            title="Spiking Speech Commands",
            what="spoken English words through a model of the cochlea; 100 steps (14 ms) of 140 channels",
            url="https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/",
            licence="CC BY 4.0",
            citation=f"{_HEIDELBERG_CITATION}; Warden 2018, arXiv 1804.03209",
            classes=35,
            counts=(("train", 75_466), ("validation", 9_981), ("test", 20_382)),
            files=(
                _heidelberg("ssc_train", "d102be95e7144fcc0553d1f45ba94170"),
                _heidelberg("ssc_valid", "b4eee3516a4a90dd0c71a6ac23a8ae43"),
                _heidelberg("ssc_test", "a35ff1e9cffdd02a20eb850c17c37748"),
            ),
        ),
    )
}
