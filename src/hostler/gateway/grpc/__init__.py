"""The gRPC side of the gateway.

Only `gateway` may be imported before a server starts: the others import the library, 15 MB of it.
"""
