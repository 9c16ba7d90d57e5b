"""What runs inside a worker process: one replica of one model, in whatever Python it brings.

Standard library, numpy and the model's framework only, from Python 3.8 on. It imports nothing of
hostler and nothing of hostler imports it: the server knows its folder and speaks with it in
frames (`channel.py`) over one Unix socket, with tensors in shared memory.

    __main__.py   entry: the parent-death signal, the socket, private naming of this package
    channel.py    frames and the shared slab
    tensors.py    tensors in a frame or in the slab <-> numpy arrays
    loop.py       one message after the other: open, start, run, stop
    adapters/     how each framework opens and runs a model
"""
