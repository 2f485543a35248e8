"""Read and write pictures and maps: PNG 8/16 bit, JPEG, TIFF, EXR, NPY, NPZ; EXIF turns; colour spaces; contact sheets.

Everything that reads raises ``ValueError`` with one line that says what is wrong with which file; ``UNREADABLE`` holds
also what keeps a file from being opened at all.
Everything that writes goes to a temporary name first, so that a file under its own name is always whole.
"""

from ilora.images.atomic import replacing
from ilora.images.maps import StoredMap, find_maps, read_map
from ilora.images.pictures import find, read, resolution, suffixes
from ilora.images.raster import LARGEST, UNREADABLE
from ilora.images.sheet import contact_sheet
from ilora.images.write import write_exr, write_npy, write_npz, write_png16, write_preview

__all__ = [
    "LARGEST",
    "UNREADABLE",
    "StoredMap",
    "contact_sheet",
    "find",
    "find_maps",
    "read",
    "read_map",
    "replacing",
    "resolution",
    "suffixes",
    "write_exr",
    "write_npy",
    "write_npz",
    "write_png16",
    "write_preview",
]
