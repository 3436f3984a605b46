"""``bregma evaluate``."""

from dataclasses import dataclass

import tyro

from bregma.cli.options import MaybePath, MaybeText, Run


@dataclass(frozen=True)
class Evaluate:
    """Score a finished run on unseen data.

    Args:
        run: run folder.
        data: a data set other than the run's own, with frames of the same shape.
        root: folder of the data files; the environment variable BREGMA_DATA, else "~/.cache/bregma".
    """

    run: tyro.conf.Positional[Run]
    data: MaybeText = None
    root: MaybePath = None

    def __call__(self) -> int:
        """Print the scores as JSON."""
        import json

        import torch

        from bregma.runs.build import build_network, load_best
        from bregma.runs.evaluate import evaluate, unseen
        from bregma.runs.folder import RunFolder

        folder = RunFolder(self.run)
        config = folder.config()
        dataset = unseen(config, self.data, self.root)
        torch.set_num_threads(config.experiment.threads)
        net = build_network(config)
        load_best(net, folder, dataset)
        result = evaluate(net, dataset)
        print(
            json.dumps(
                {
                    "run": str(folder.path),
                    "data": self.data or config.experiment.data,
                    "test_accuracy": result.accuracy,
                    "test_loss": result.loss,
                    "firing_rate": result.firing_rate,
                    "firing_rates": result.firing_rates,
                    "synops": round(result.synops, 1),
                },
                indent=2,
            )
        )
        return 0
