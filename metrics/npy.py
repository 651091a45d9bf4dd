"""A lock for NumPy's parser of `.npy` headers, which may run in one thread at a time.

NumPy parses a header with `ast.literal_eval`. CPython 3.11 counts the depth of a syntax tree in one counter
an interpreter: two threads that parse at once can end in "SystemError: AST constructor recursion depth
mismatch" (CPython's issue 106905). Whatever here reads a header, `numpy.load` included, holds this lock.
"""

import threading

NPY_HEADER_LOCK = threading.Lock()
