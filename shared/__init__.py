"""What both planes import, in rooms that each mean one thing.

A module may live here only if the control plane and the executor both import it today, and only in a room whose
one-sentence meaning it fits. There is no room for "other", and no file called util, common, helpers or base. A test
in `tests/architecture/` fails on a module that only one plane imports; `gen/`, generated from `proto/`, is excepted.

Domain types are not shared: the planes meet in proto, and each has its own model of what it works on.
"""
