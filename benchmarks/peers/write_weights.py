"""Write the original weights as neural-style-pt loads them, once for all its runs."""

from __future__ import annotations

from child import Child
from peer_weights import caffe_state


def main() -> None:
    child = Child()
    import torch

    torch.save(caffe_state(), child["path"])
    child.tell("done")


if __name__ == "__main__":
    main()
