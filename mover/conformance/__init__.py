"""A client that tests any NDMP server against the specifications and says which clause stands behind each finding.

The door, module by module:
`options`: what to test and how (`Options`, GROUPS).
`run.run(options, progress) -> Report`: every check of every version asked for.
`results`: `Report`, `Row`, `Result`; what the command prints.

Theory of operation. A check is a function on a fresh session (connected, version agreed on, logged in) that has its own
deadline; it raises `MismatchError` when the server is wrong, `ServerGoneError` when it says nothing, closes or sends
what cannot be read, `NotOfferedError` and `SkippedError` when there is nothing to judge. So no check depends on
another, and no server can do more than fail one. What is expected is written down here, from the specifications, and
read from no table of our own server; only codec and framing are shared with it. `walk` turns the tables of
`state_tables` into checks, the modules `group_*` hold the checks that no table can say; `groups` lists which version
has which group.
"""
