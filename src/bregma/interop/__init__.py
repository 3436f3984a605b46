"""At home in the ecosystem: networks that go to, and come from, other libraries.

============================ ========================================================================================
`bregma.interop.chain`       any network of this package as one `bregma.nn.SpikingSequential`, where others start
`bregma.interop.snntorch`    to and from snnTorch (``pip install bregma[snntorch]``);
                             ``bregma.interop.snntorch_files`` reads and writes such networks as files
`bregma.interop.nir`         to and from the Neuromorphic Intermediate Representation
                             (``pip install bregma[nir]``)
`bregma.interop.onnx`        one time step as an ONNX graph (``pip install bregma[onnx]``)
`bregma.interop.state`       weights and constants in one file, for any framework
`bregma.interop.tensorboard` figures of a run in TensorBoard (``pip install bregma[tensorboard]``)
`bregma.interop.federated`   training by clients that send sums; ``bregma.interop.flower`` does it over Flower
                             (``pip install bregma[flower]``)
`bregma.interop.privacy`     noise for these sums (``pip install bregma[privacy]``)
============================ ========================================================================================

Only commands of the terminal import these, when they are called for, and each library is needed by its own file alone.
"""
