"""What runs a model of one's own: one file an engine, and `base` says what each promises.

Only the worker of `model_server` uses it, in a process of its own.
"""
