"""Install the wheel into an empty environment with nothing but its core dependencies, and use it there.

    python tests/wheel.py dist

Called by `make dist`: it installs PyTorch once more, which is no part of `make test`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

USE = """
import sys, torch, torchflow
from torch import nn
from torchflow import Trainer, supervised

x = torch.randn(100, 2)
trainer = Trainer(supervised(nn.MSELoss()), optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1), checkpoints="run", progress=False)
result = trainer.fit(nn.Linear(2, 1), (x, x[:, :1]), epochs=20, batch_size=10)
assert result.history.last["train/loss"] < 1e-3, result
again = Trainer(supervised(nn.MSELoss()), optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1), checkpoints="run", progress=False)
assert again.fit(nn.Linear(2, 1), (x, x[:, :1]), epochs=21, batch_size=10, resume=True).progress.epoch == 21
assert not {"pandas", "matplotlib", "PIL", "pyarrow"} & set(sys.modules)
print(torchflow.__version__, result)
"""


def main() -> None:
    """Make the environment, install, use."""
    wheel = next(Path(sys.argv[1]).absolute().glob("*.whl"))
    constraints = Path(__file__).parent.parent.absolute() / "constraints.txt"
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, "-m", "venv", f"{place}/env"], check=True)
        python = f"{place}/env/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--constraint", str(constraints), str(wheel)], check=True)
        subprocess.run([python, "-c", USE], cwd=place, check=True)
        subprocess.run([f"{place}/env/bin/torchflow", "inspect", "run"], cwd=place, check=True)


if __name__ == "__main__":
    main()
