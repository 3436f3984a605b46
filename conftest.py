"""What pytest collects: the examples in all docstrings, but for files that need a library that is not here."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("flwr") else ["src/bregma/interop/flower.py"]
