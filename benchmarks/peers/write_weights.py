"""Write the original weights in neural-style-pt's format."""

from __future__ import annotations

from child import Child
from peer_weights import caffe_state


def main() -> None:
    child = Child()
    import torch

    torch.save(caffe_state(), child["path"])
    child.report("done")


if __name__ == "__main__":
    main()
