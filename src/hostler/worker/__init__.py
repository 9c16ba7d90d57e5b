"""What runs inside a worker process: one replica of one model, in whatever Python it brings.

Standard library, numpy and the model's framework only, from Python 3.8 on. It imports nothing of
hostler and nothing of hostler imports it: the server knows its folder and speaks with it in
frames (`channel.py`) over one Unix socket, with tensors in shared memory.

    __main__.py   entry: the parent-death signal, the socket, private naming of this package
    channel.py    frames, the shared slab, and which thread reads
    loop.py       one message after the other: open, start, run, stop
    task.py       what a worker serves, is asked and answers
    tensors.py    tensors in a frame or in the slab <-> numpy arrays
    results.py    answers <-> headers and buffers
    exchange.py   what user code asks while it runs: streams.py (responses one by one, is it
                  cancelled?), calls.py (other models), chores.py (a helper thread)
    pb_*.py       what `triton_python_backend_utils` gives Python models
    adapters/     how each framework opens and runs a model
    handler_*.py  scripts of SageMaker's containers: functions, context, bodies <-> arrays;
                  toolkits/ what a script leaves out, sagemaker_modules.py what it imports
    variables.py  variables that would have changed how this process starts
"""
