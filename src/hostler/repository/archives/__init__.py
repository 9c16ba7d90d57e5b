"""Safe unpacking of tar and zip archives: the one unpacker of the house.

rules.py      what is refused, and why; paths and links (pure)
streams.py    decompressed bytes, bounded
tar.py        headers of a tar archive, read strictly
zip.py        the directory of a zip archive, read strictly
folder.py     writing what comes out, and nothing outside of its folder
unpacking.py  an archive, member by member

Standard library alone, and relative imports: `environments/unpack.py` loads this folder in a
process of its own, which has nothing else of hostler.
"""

from .rules import Limits, Refused, check_links, is_apple_double, plain_path
from .unpacking import Progress, unpack

__all__ = [
    "Limits",
    "Progress",
    "Refused",
    "check_links",
    "is_apple_double",
    "plain_path",
    "unpack",
]
