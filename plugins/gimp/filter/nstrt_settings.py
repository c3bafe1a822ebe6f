"""Reads ``nstrt.json``, which ``nstrt gimp install`` writes beside the filter."""

import json
import os

from nstrt_errors import UserError

FORMAT, PROTOCOL = 1, 1


class Settings:
    """Contents of nstrt.json: the worker's command line and the dialog's arguments."""

    def __init__(self, content):
        self.version = content["version"]
        self.command = content["command"]
        self.environment = content["environment"]
        self.log = content["log"]
        self.mend = content["mend"]
        self.arguments = content["arguments"]
        for item in self.arguments:
            # Raises KeyError or TypeError if an argument is incomplete.
            [item[key] for key in ("name", "option", "kind", "default", "unset", "advanced")]

    @classmethod
    def read(cls, folder):
        """Read nstrt.json in ``folder``; raises UserError if it is missing or damaged."""
        mend = "run this in a terminal, then start GIMP again: nstrt gimp install"
        try:
            with open(os.path.join(folder, "nstrt.json"), encoding="utf-8") as file:
                content = json.load(file)
            if content["format"] != FORMAT or content["protocol"] != PROTOCOL:
                raise UserError(f"The filter and its file nstrt.json do not fit together; {mend}")
            return cls(content)
        except FileNotFoundError:
            raise UserError(f"The file nstrt.json is missing beside the filter; {mend}") from None
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"The file nstrt.json beside the filter is damaged; {mend}") from None
