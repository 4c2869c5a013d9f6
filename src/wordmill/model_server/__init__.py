"""The process that runs local models: a supervisor of workers, a fair queue, an HTTP door.

`wordmill model-server` is one process without torch. It starts **one worker process a model**
(`worker`), because only the end of a process gives its memory back, and hands each request to the
worker of its model when a slot is free: fairly between people, told of their place in the queue
while they wait.

    front      OpenAI's API over HTTP; what comes is handed through to a worker, byte by byte
    admin      what is loaded, with memory and speed; load, unload, restart, pin
    pool       which models have a worker: admission by memory, idle ones unloaded, swaps, restarts
    fairness   who is next when a slot is free
    process    one worker: started, watched, ended
    memory     what a model takes, and what this machine has
    metrics    what was measured, by model and by person
    client     what others ask of it: the command line, the page
    worker     the other side: one model in one process, with an engine of `backends`
"""
