"""Neural style transfer: pictures in, pictures out.

``__init__.pyi`` lists the public names. Each loads when it is first used, so that importing this
package costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
