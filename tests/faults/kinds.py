"""Every kind of input with its stated outcome. `len(KINDS)` is the number that may be said of the suite; hostile files come on top."""

from faults import codecs, damage, names, pictures, times
from faults.material import Kind

BUILT: tuple[Kind, ...] = (*damage.KINDS, *times.KINDS, *pictures.KINDS, *codecs.KINDS, *names.KINDS)
KINDS: tuple[Kind, ...] = (*BUILT, *names.LINKED)
EVERYDAY: tuple[Kind, ...] = tuple(kind for kind in KINDS if not kind.is_slow)
