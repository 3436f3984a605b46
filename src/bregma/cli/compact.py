"""``bregma compact``."""

from dataclasses import dataclass

import tyro

from bregma.cli.options import MaybePath, MaybeText, Run


@dataclass(frozen=True)
class Compact:
    """Take out of a finished run's network what does not matter, check that it answers as before, and compress it.

    Args:
        run: run folder.
        out: folder for compact.safetensors, sparse.safetensors and compact.json; the run folder if not given.
        data: samples to compare the answers on, other than the run's own, with frames of the same shape.
        root: folder of the data files; the environment variable BREGMA_DATA, else "~/.cache/bregma".
    """

    run: tyro.conf.Positional[Run]
    out: MaybePath = None
    data: MaybeText = None
    root: MaybePath = None

    def __call__(self) -> int:
        """Write the files and print the table."""
        import torch
        from rich.console import Console

        from bregma.runs.evaluate import unseen
        from bregma.runs.folder import RunFolder, require_folder
        from bregma.runs.smaller import SPARSE, compact_run, table

        folder = RunFolder(self.run)
        config = folder.config()
        out = self.out or folder.path
        require_folder(out)
        dataset = unseen(config, self.data, self.root)
        torch.set_num_threads(config.experiment.threads)
        figures = compact_run(folder, dataset, out)
        console = Console(highlight=False, width=max(100, Console().width))  # a table cut short says nothing
        console.print(table(figures))
        sizes = ", ".join(f"{name} {count:,}" for name, count in figures["bytes"].items())
        console.print(f"\noperations are synaptic ones per sample\nbytes: {sizes}", soft_wrap=True)
        accuracy, samples = figures["test_accuracy"]["after"], figures["samples"]
        console.print(f"test accuracy {accuracy:.2%}, as before; the same answer to all {samples} samples")
        print(out / SPARSE)
        return 0
