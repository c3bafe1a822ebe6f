"""The contract between exporter and runtime: what a model is, where it lies, how it fails.

This is the one runtime module that the exporter imports.
"""

from nstrt.runtime.model.errors import *  # noqa: F403
from nstrt.runtime.model.errors import __all__ as _errors
from nstrt.runtime.model.files import *  # noqa: F403
from nstrt.runtime.model.files import __all__ as _files
from nstrt.runtime.model.layers import *  # noqa: F403
from nstrt.runtime.model.layers import __all__ as _layers
from nstrt.runtime.model.spec import *  # noqa: F403
from nstrt.runtime.model.spec import __all__ as _spec
from nstrt.runtime.model.step import *  # noqa: F403
from nstrt.runtime.model.step import __all__ as _step
from nstrt.runtime.model.store import *  # noqa: F403
from nstrt.runtime.model.store import __all__ as _store

__all__ = [*_errors, *_files, *_layers, *_spec, *_step, *_store]
