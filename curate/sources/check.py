"""Whether a source is still the file that was scanned; each is looked up once in a process."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.clip import Fault
from curate.sources.source import Source
from curate.sources.storage import identities


def changed_since(listed: Source, when: str) -> Fault | None:
    """A fault if the URL does not lead to the file that was listed any more; `when` ends "it has changed since it was".

    What cannot be looked up (a network that is down) says nothing; reading it will.
    """
    now = identities([listed.url])[0]
    if now is None or listed.is_same_file(Source(listed.key, listed.url, *now)):
        return None
    return Fault("open", "SourceChanged", f"it has changed since it was {when}: start the same run again, which lists it anew")


@dataclass(slots=True)
class SourceCheck:
    """Remembers what it found, by URL; a forked process looks again."""

    lookup: Callable[[Sequence[str]], list[Any]] = identities
    _found: dict[str, str | None] = field(default_factory=dict)
    _pid: int = field(default_factory=os.getpid)

    def problem(self, scanned: Source, known_as: str = "scanned; run `curate run` again") -> str | None:
        """Why the URL does not lead to that file any more, None where it does. `known_as` ends "it has changed since it was"."""
        if self._pid != os.getpid():
            self._found, self._pid = {}, os.getpid()
        if scanned.url not in self._found:
            now = self.lookup([scanned.url])[0]
            problem = None
            if now is None:
                problem = f"{scanned.url} is gone, or cannot be looked up"
            elif not scanned.is_same_file(Source(scanned.key, scanned.url, *now)):
                problem = f"{scanned.url} has changed since it was {known_as}"
            self._found[scanned.url] = problem
        return self._found[scanned.url]
