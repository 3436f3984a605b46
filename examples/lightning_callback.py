"""A callback of Lightning that logs how sparse a network is, and training with a named density.

python examples/lightning_callback.py
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

import bregma
from bregma.data import collate, load
from bregma.nn import SpikingMLP


class DensityMonitor(Callback):
    """Logs the density of the network and of each layer after every epoch."""

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write them to whatever logger there is."""
        module.log("density", bregma.density(module))
        for name, density in bregma.sparsity.layer_densities(module).items():
            module.log(f"density/{name}", density)


class Classifier(LightningModule):
    """A spiking network that reaches a tenth of its connections at the end of the training."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SpikingMLP(800, hidden=(64,), classes=10, gain=3.0)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        """Loss of a batch."""
        x, labels = batch
        return F.cross_entropy(self.net(x), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam whose weights TargetDensity keeps sparse."""
        optimizer = torch.optim.Adam(bregma.param_groups(self.net, lam=0.0), lr=2e-2)
        bregma.TargetDensity(optimizer, 0.1, int(self.trainer.estimated_stepping_batches))
        return optimizer


def main(epochs: int = 5) -> dict[str, float]:
    """Train on the digits; accuracy on test digits and the density that the callback logged last."""
    seed_everything(0, verbose=False)
    data, model = load("digits", steps=10), Classifier()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_epochs=epochs, accelerator="cpu", callbacks=[DensityMonitor()], **quiet)
    trainer.fit(model, torch.utils.data.DataLoader(data.train, 32, shuffle=True, collate_fn=collate))
    x, labels = data.test.__getitems__(list(range(len(data.test))))
    with torch.no_grad():
        accuracy = (model.net(x).argmax(1) == labels).float().mean().item()
    return {"accuracy": accuracy, "density": float(trainer.callback_metrics["density"])}


if __name__ == "__main__":
    print(main())
