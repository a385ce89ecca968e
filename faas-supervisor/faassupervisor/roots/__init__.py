"""The user's image where the agent does not run inside it (the zip runtime): its files below the temporary directory.

source ─► remote: bytes, resumed and verified ─► layers.unpack ─► root: sealed, kept, checked before each run
                                                                    └► inside: what a path means in there
"""
