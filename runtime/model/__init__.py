"""The contract between exporter and runtime: layers, specifications, files and graph inputs."""

from nstrt.runtime.model.layers import *  # noqa: F403
from nstrt.runtime.model.layers import __all__ as _layers
from nstrt.runtime.model.spec import *  # noqa: F403
from nstrt.runtime.model.spec import __all__ as _spec
from nstrt.runtime.model.step_io import *  # noqa: F403
from nstrt.runtime.model.step_io import __all__ as _step_io
from nstrt.runtime.model.store import *  # noqa: F403
from nstrt.runtime.model.store import __all__ as _store

__all__ = [*_layers, *_spec, *_step_io, *_store]
