"""Bytes <-> core nouns, without I/O: a folder a wire.

A codec owns no socket, logs nothing and knows no model; it raises `HostlerError` and nothing else.
"""
