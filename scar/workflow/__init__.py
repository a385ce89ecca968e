"""How functions hang together: which one's files start which other, as values that can be checked and drawn.

Pure, and known to no file format and to no AWS: `ends` says which keys a function takes and leaves, `graph` who starts whom, `proof` what must not
be; `picture` decides where each thing stands, and `text`, `svg` and `words` draw it.
"""
